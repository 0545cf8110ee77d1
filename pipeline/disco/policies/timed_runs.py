"""The policies as they really run: production decoding of held-out prompts, timed, all policies in turn on each prompt."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from drafters.engine.decode import autoregressive, speculative
from drafters.io.atomic import write_atomic
from drafters.stop.policy import StopPolicy
from eval.run.configurations import Contender
from eval.run.greedy_check import GreedyCheck
from eval.run.records import AUTOREGRESSIVE, DIFFERENT, PACKAGE, SPECULATIVE, Configuration, Record, parse
from eval.run.trials import Harness, Task, Warps
from eval.stop.policy_comparison import measured
from eval.stop.replay import Prices
from pipeline.disco.setup import Opened
from pipeline.runner.stage import Advance


def contenders(opened: Opened, policies: Mapping[float, Mapping[str, StopPolicy]]) -> list[Contender]:
    """Plain decoding and every policy (name -> policy, by temperature) with the sampler that was traced."""
    found = []
    kept = opened.vocab.to_target.shape[0]
    for temperature, named in policies.items():
        plain = Configuration(None, None, AUTOREGRESSIVE, None, temperature, None)
        found.append(Contender(plain, partial(autoregressive, opened.pair)))
        for name, policy in named.items():
            key = Configuration(PACKAGE, opened.sampler.name, SPECULATIVE, name, temperature, kept)
            run = partial(speculative, opened.pair, opened.sampler, policy)
            found.append(Contender(key, run, opened.sampler, stop=policy))
    return found


def run_trials(
    opened: Opened,
    policies: Mapping[float, Mapping[str, StopPolicy]],
    prompts: Sequence[Tensor],
    out: Path,
    *,
    max_new_tokens: int,
    seed: int,
    advance: Advance,
) -> list[Record]:
    """Records of all prompts, int64 (n,); each prompt's are kept in a file of `out`, so that a rerun skips it."""
    check = GreedyCheck(opened.models.target)
    harness = Harness(contenders(opened, policies), opened.pair.device, max_new_tokens, seed, check, Warps())
    records: list[Record] = []
    warm = False
    for number, ids in enumerate(prompts):
        part = out / f".part-trial-{number:04d}.jsonl"
        kept = part.exists()
        if not kept:
            task = Task(number, str(number), ids)
            if not warm:
                harness.warm_up(task)
                warm = True
            lines = (record.to_json() for record in harness.trial(task, 0))
            write_atomic(part, "".join(f"{line}\n" for line in lines).encode())
        records += map(parse, part.read_text(encoding="utf-8").splitlines())
        advance(kept=kept)
    return records


def summary(
    records: Sequence[Record], prices: Prices, policies: Mapping[float, Mapping[str, StopPolicy]]
) -> list[Mapping[str, object]]:
    """Per temperature and policy, plain decoding (policy null) first: what `eval.stop.policy_comparison.measured`
    says, and the speed-up by clock.

    That is the median of the prompts' own speed-ups: on one prompt all policies run within seconds of each other, and a machine
    that is disturbed for some seconds disturbs few of them.
    """
    found: list[Mapping[str, object]] = []
    for temperature, named in policies.items():
        here = [record for record in records if record.configuration.temperature == temperature]
        by_name = {name: [r for r in here if r.configuration.stop == name] for name in (None, *named)}
        described = {name: policy.asks_from for name, policy in named.items()}
        rows = [measured(some, prices, described) for some in by_name.values()]
        for row, some in zip(rows, by_name.values(), strict=True):
            found.append({"temperature": temperature, **row, "clock_speed": clock_speed(some, by_name[None])})
    return found


def clock_speed(records: Sequence[Record], plain: Sequence[Record]) -> float:
    """Median over prompts of tokens per second over those of `plain`, which ran on the same prompts in the same order."""
    rates = [[record.tokens / record.seconds for record in some] for some in (records, plain)]
    return statistics.median(ours / theirs for ours, theirs in zip(*rates, strict=True))


def differing(records: Sequence[Record]) -> list[Record]:
    """Greedy outputs that are not plain decoding's and no ties."""
    return [record for record in records if record.greedy == DIFFERENT]
