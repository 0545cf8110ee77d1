"""The engine against transformers on the same prompts, models, threads and work, and against its own plain decoding.

Peers draft with the unpruned drafter, as ours does where it is compared with them; `packaged` is what this project makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers.utils import logging

from drafters.engine.decode import Decoded, autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair, full_map, pair_of
from drafters.io.paths import ZOO
from drafters.models.pair import ModelPair
from drafters.package.reader import load
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import VocabMap
from eval.bench import embedded
from eval.bench.output import Figures, environment, finish
from eval.bench.peers import (
    ASSISTED,
    DYNAMIC,
    FOREIGN,
    GENERATE,
    Peer,
    counted,
    foreign_tokenizer,
    gate,
    same_tokenizer,
)
from eval.costs.forwards import Costs, measure_costs
from eval.costs.timing import alternate, median, outside_forwards, ratio
from eval.lossless.real_models.outputs import newest

AR = "autoregressive"


@dataclass
class EngineOptions:
    """The options of the engine benchmark; the defaults are those of the README's table."""

    prompts: int = 8
    tokens: int = 64  # new ones per prompt
    rounds: int = 3  # timings of each, at least 3
    length: int = 5  # drafted per round in the comparison with assisted generation
    lengths: list[int] = field(default_factory=lambda: [1, 2, 3, 5])  # further ones
    temperatures: list[float] = field(default_factory=lambda: [0.0, 1.0])  # of sampling; 0: greedy
    samples: int = 300  # of the gate on peers
    threads: int = 1
    package: str = ""  # folder of the packaged drafter; "": the newest in runs/package
    compile: bool = True  # our forwards that recur; false: transformers' own, as the peers have them


@dataclass(frozen=True)
class Setting:
    """Models without an EOS, so that every run writes the same number of tokens."""

    models: ModelPair
    foreign: ModelPair
    pair: TransformersPair
    short: TransformersPair  # with the packaged drafter
    short_map: VocabMap
    peers: Sequence[Peer]
    prompts: Sequence[Tensor]

    @staticmethod
    def load(options: EngineOptions) -> Setting:
        """The embedded pair on the CPU in fp32. Raises OutputsError without a package."""
        folder = Path(options.package) if options.package else newest(Path("runs/package"))
        package = load(folder, target=ZOO / "target", device="cpu", dtype="fp32")
        torch.set_num_threads(options.threads)
        logging.set_verbosity_error()
        models, foreign = (embedded.load_endless(torch.device("cpu"), name) for name in ("drafter", "foreign"))
        peers = same_tokenizer(models.target, models.drafter, options.length)
        tokenizers = foreign.target_tokenizer, foreign.drafter_tokenizer
        peers.append(foreign_tokenizer(models.target, foreign.drafter, *tokenizers, options.length))
        prompts = embedded.prompts(models, options.prompts, 256)
        package.drafter.generation_config.eos_token_id = None
        pair, short = (pair_of(models, drafter, options.compile) for drafter in (None, package.drafter))
        return Setting(models, foreign, pair, short, package.vocab, peers, prompts)

    def plain(self, number: int, temperature: float, tokens: int) -> Decoded:
        """Our plain decoding of a prompt."""
        return autoregressive(self.pair, [self.prompts[number]], _coins(number), _limits(temperature, tokens))

    def drafted(self, number: int, temperature: float, tokens: int, length: int) -> Decoded:
        """Our speculative decoding of a prompt with a constant draft length."""
        sampler = build("standard", full_map(self.models))
        prompts, limits = [self.prompts[number]], _limits(temperature, tokens)
        return speculative(self.pair, sampler, Static(length), prompts, _coins(number), limits)

    def packaged(self, number: int, temperature: float, tokens: int, length: int) -> Decoded:
        """The same with the packaged drafter."""
        prompts, limits = [self.prompts[number]], _limits(temperature, tokens)
        return speculative(self.short, build("tli", self.short_map), Static(length), prompts, _coins(number), limits)


def measure(options: EngineOptions) -> Figures:
    """Ratios of tokens per second, prompt by prompt inside one run; see README for the keys."""
    setting = Setting.load(options)
    lengths = sorted({*options.lengths, options.length})
    proof = gate(setting.models, setting.foreign, options.samples, options.length)  # first: it refuses too few samples
    costs = measure_costs(
        {"drafter": setting.pair, "packaged": setting.short}, setting.prompts[0], range(1, lengths[-1] + 2), 20
    )
    tables = {str(t): _at(setting, options, t, lengths, costs) for t in options.temperatures}
    named = vars(options) | {"package": Path(options.package).name}  # a file to show: without this machine's folders
    result: Figures = {
        "embedded_pair": [Path(name).name for name in setting.models.ids],
        "options": named,
        "temperatures": tables,
    }
    for key in ("vs_transformers_assisted", "vs_transformers_generate", "vs_autoregressive"):
        result[key] = median([table[key]["median"] for table in tables.values()])
    simple = replace(setting, pair=pair_of(setting.models))  # hooks do not go with compiled forwards
    result["outside_forwards"] = outside_forwards(
        [setting.models.target, setting.models.drafter],
        lambda: simple.drafted(0, options.temperatures[-1], options.tokens, options.length),
    )
    return result | {"gate": proof} | environment()


def _at(setting: Setting, options: EngineOptions, temperature: float, lengths: list[int], costs: Costs) -> Figures:
    seconds: dict[str, list[float]] = {}
    for number in range(len(setting.prompts)):
        tasks = _tasks(setting, number, temperature, options.tokens, lengths)
        for name, series in alternate(tasks, options.rounds, torch.device("cpu")).items():
            seconds.setdefault(name, []).append(median(series))
    rows: Figures = {}
    for kind, decode in (("drafter", setting.drafted), ("packaged", setting.packaged)):
        for length in lengths:
            run = _forwards(setting, options, temperature, length, decode)
            name = _named(length, kind)
            ideal = costs.speedup(kind, run["block_efficiency"], run["drafted_per_forward"])
            rows[name] = run | {"vs_autoregressive": ratio(seconds[AR], seconds[name]), "ideal": ideal}
    best = max(rows, key=lambda name: rows[name]["vs_autoregressive"]["median"])
    ours = seconds[_named(options.length)]
    return {
        "vs_transformers_assisted": ratio(seconds[ASSISTED], ours),
        "packaged_vs_transformers_assisted": ratio(seconds[ASSISTED], seconds[_named(options.length, "packaged")]),
        "vs_transformers_dynamic": ratio(seconds[DYNAMIC], ours),
        "vs_transformers_foreign": ratio(seconds[FOREIGN], ours),
        "vs_transformers_generate": ratio(seconds[GENERATE], seconds[AR]),
        "vs_autoregressive": rows[best]["vs_autoregressive"],
        "best": best,
        "share_of_ideal": rows[best]["vs_autoregressive"]["median"] / rows[best]["ideal"],
        "lengths": rows,
        "tokens_per_second": {name: options.tokens / median(series) for name, series in seconds.items()},
        "peers": {peer.name: _counts(peer, setting, options, temperature) for peer in setting.peers},
        "c": {kind: costs.drafters[kind].median / costs.t for kind in ("drafter", "packaged")},
    }


def _tasks(
    setting: Setting, number: int, temperature: float, tokens: int, lengths: list[int]
) -> Mapping[str, Callable[[], object]]:
    tasks: dict[str, Callable[[], object]] = {AR: partial(setting.plain, number, temperature, tokens)}
    for peer in setting.peers:
        tasks[peer.name] = partial(peer.run, setting.prompts[number], temperature, tokens)
    for length in lengths:
        tasks[_named(length)] = partial(setting.drafted, number, temperature, tokens, length)
        tasks[_named(length, "packaged")] = partial(setting.packaged, number, temperature, tokens, length)
    return tasks


def _forwards(
    setting: Setting, options: EngineOptions, temperature: float, length: int, decode: Callable[..., Decoded]
) -> dict[str, float]:
    runs = [decode(n, temperature, options.tokens, length) for n in range(len(setting.prompts))]
    forwards = sum(int(run.target_forwards.sum()) for run in runs)
    drafted, verified, accepted = (
        sum(int(getattr(run, name).sum()) for run in runs) for name in ("drafted", "verified", "accepted")
    )
    return {
        "acceptance_rate": accepted / max(verified, 1),
        "block_efficiency": sum(len(run.tokens[0]) for run in runs) / forwards,
        "drafted_per_forward": drafted / forwards,
        "target_forwards": forwards,
    }


def _counts(peer: Peer, setting: Setting, options: EngineOptions, temperature: float) -> dict[str, float]:
    torch.manual_seed(0)
    found = [counted(peer, prompt, temperature, options.tokens) for prompt in setting.prompts]
    forwards = sum(item.target_forwards for item in found)
    return {
        "target_forwards": forwards,
        "drafter_forwards": sum(item.drafter_forwards for item in found),
        "accepted": sum(item.accepted for item in found),
        "block_efficiency": sum(item.tokens for item in found) / forwards,
    }


def _named(length: int, kind: str = "drafter") -> str:
    return f"{'speculative' if kind == 'drafter' else kind}_{length}"


def _coins(number: int) -> KeyedCoins:
    return KeyedCoins(0, torch.tensor([number]))


def _limits(temperature: float, tokens: int) -> Limits:
    return Limits(tokens, Sampling(temperature), ignore_eos=True)


def lines(result: Figures) -> list[str]:
    """The result as lines to print: tokens/s and speed-ups per temperature."""
    found = []
    for temperature, table in result["temperatures"].items():
        found.append(f"T = {temperature}: tokens/s " + ", ".join(
            f"{name} {rate:.1f}" for name, rate in table["tokens_per_second"].items()
        ))  # fmt: skip
        for key in (
            "vs_transformers_assisted", "packaged_vs_transformers_assisted", "vs_transformers_generate", "vs_autoregressive",
        ):  # fmt: skip
            value = table[key]
            found.append(f"  {key:34} {value['median']:.2f} x  (95 %: {value['low']:.2f} to {value['high']:.2f})")
        found.append(
            f"  best: {table['best']}, {table['share_of_ideal']:.0%} of the ideal speed-up, c = {table['c']['drafter']:.2f}, "
            f"packaged {table['c']['packaged']:.2f}"
        )
    found.append(f"outside of forwards: {result['outside_forwards']['share']:.1%} of a request")
    for name, check in result["gate"].items():
        word = "passes" if check["passes"] else "FAILS"
        found.append(
            f"{name}: its sampling {word} (p = {check['p_value']:.2g}, biases of {check['detectable_tv']:.2f} cannot hide)"
        )
    return found


def main(options: EngineOptions) -> int:
    """Measure, write runs/bench/engine.json, and print; returns the exit status."""
    result = measure(options)
    return finish("engine", result, lines(result))
