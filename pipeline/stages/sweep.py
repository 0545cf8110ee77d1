"""sweep: acceptance against the share of kept tokens for every way to spend the pruned mass, and the size that pays here.

All sizes and methods are judged on the same positions of text that nothing was fitted to, under every sampling. Writes
``curve.json``: rows with 95 % intervals, paired gains over TLI, head weights and milliseconds, predicted tokens per second
from this machine's measured forwards, and the knee per sampling. ``curve.csv`` holds the same rows.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from drafters.affinity.prior import Statistics
from drafters.engine.transformers_pair import TransformersPair
from drafters.io.atomic import write_atomic
from drafters.models.devices import choose_device, choose_dtype
from drafters.models.forms import pruned_form, tail_form
from drafters.models.heads import grow_embedding
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.models.tail import Moments, Tail
from drafters.probs import Sampling
from drafters.vocab.keep import rank
from drafters.vocab.protected import protected_tokens
from eval.acceptance import vocabulary_curve
from eval.costs.forwards import Costs, measure_costs
from pipeline.config import text_settings as texts
from pipeline.config.settings import pair_of, read
from pipeline.config.text_settings import text_of
from pipeline.count.law import prior_of
from pipeline.errors import ConfigError
from pipeline.fit.tail_fit import named, trained_tail
from pipeline.fit.text_and_models import documents
from pipeline.fit.text_and_models import parts as deal_out
from pipeline.fit.trainer import Plan, healed_parameters, train
from pipeline.runner.stage import Advance, Context, Stage, always, say
from pipeline.sweep import curve
from pipeline.sweep.passes import Both, calibrate, fit, refine, test
from pipeline.sweep.size import HEALED, Size


@dataclass
class SweepConfig:
    """Sizes, methods and text of the curve."""

    # Of the vocabulary that is kept
    fractions: list[float] = field(default_factory=lambda: [1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01])
    # Temperature, top-k, top-p
    samplings: list[list[float]] = field(default_factory=lambda: [[1.0, 0.0, 1.0], [0.7, 0.0, 0.9]])
    # corpus | generations: the target's own text, made by the stage generate
    source: str = "corpus"
    tokens: int = 60_000  # of text: fit, calibrate and test together
    window: int = 256
    windows_per_document: int = 2
    stride: int = 4  # every so many positions are judged
    # Training-free tails: rank, share of the pruned tokens that is covered (the likeliest).
    tails: list[Any] = field(default_factory=lambda: [[8, 1.0], [12, 1.0], [16, 1.0], [28, 0.4], [40, 0.4]])
    trained: list[Any] = field(default_factory=lambda: [40, 0.4])  # which of them is trained, too
    steps: int = 0  # of training that tail of each size; 0: none is trained
    heal_steps: int = 0  # of training tail, kept rows and norms together afterwards
    heal_rate: float = 0.0005
    batch: int = 2  # windows per step
    rate: float = 0.003  # of Adam
    # Share of the steps after which the loss goes over from KL to total variation
    tv_from: float = 0.5
    neighbours: int = 32  # of a donor in the co-occurrence prior
    kernel_contexts: int = 1000  # of the paper's covariance
    kernel_bytes: int = 600_000_000  # for the paper's kernels of one size; larger sizes go without
    cost_runs: int = 30


def run(context: Context) -> None:
    """Fit, calibrate and test all sizes; measure costs; write and say what pays."""
    cfg, settings, pair = context.cfg, read(context.cfg.sweep, SweepConfig), pair_of(context.cfg)
    target, drafter = open_checkpoint("target", pair), open_checkpoint("drafter", pair)
    match = match_vocabularies(target, drafter, pair["foreign"])
    if match.foreign:
        raise ConfigError("stage=sweep compares laws token by token: expected a pair that shares a vocabulary")
    where = choose_device(cfg.device)
    number = choose_dtype(cfg.dtype, where)
    with context.progress("Opening the models", None), quiet(always=True):
        big = open_model(target.source, target.config, number, where)
        small = grow_embedding(open_model(drafter.source, drafter.config, number, where), target.vocabulary)
    both = Both(big, small, settings.stride)
    parts = deal_out(documents(text_of(context, "sweep"), settings, target), settings)
    protected = protected_tokens(target.tokenizer, target.eos, list(cfg.prune.protect))
    tables = load_file(context.inputs["count"] / "counts.safetensors")
    counts, prior = tables["counts"], prior_of(tables)
    sizes = _sizes(counts, prior, protected, settings.fractions, match.tokens.to_drafter >= 0, small)
    sampled = [Sampling(float(t), int(k), float(p)) for t, k, p in settings.samplings]
    judged = sum(map(len, parts.values()))
    trained = sum(not size.whole for size in sizes)
    total = len(parts["fit"]) + judged * len(sampled) + (settings.steps + settings.heal_steps) * trained
    say(context.console, f"{len(sizes)} sizes under {len(sampled)} samplings on {judged} windows of text")
    with context.progress("Sweeping", total) as bar:
        laws = fit(both, sizes, parts["fit"], settings.kernel_contexts, bar.advance)
        for size in sizes:
            size.fit(small.get_output_embeddings(), _tails(settings), settings.neighbours, laws, settings.kernel_bytes)
            if settings.steps and not size.whole:
                training = _Training(settings, [ids for _, ids in parts["fit"]], cfg.seed, context.out, bar.advance)
                size.tails["tail_trained"] = training.tail(both, size)
                size.healed = training.healed(both, size) if settings.heal_steps else None
        costs = _costs(both, sizes, target, parts["test"][0][1], settings.cost_runs, cfg.package.lookahead)
        found = []
        for sampling in sampled:
            refine(both, sizes, parts["fit"], sampling, bar.advance)
            chosen = calibrate(both, sizes, parts["calibrate"], sampling, bar.advance)
            sums = test(both, sizes, chosen, parts["test"], sampling, bar.advance)
            for size, kinds, methods in zip(sizes, chosen, sums, strict=True):
                found += _rows(size, kinds, methods, sampling, costs, small, cfg.package.lookahead)
    curve.write(context.out, found, costs)
    for folder in context.out.glob(".*-*"):  # checkpoints of what is trained
        shutil.rmtree(folder, ignore_errors=True)


def _sizes(
    counts: Tensor,
    prior: Tensor | None,
    protected: Tensor,
    fractions: Sequence[float],
    tokens: Tensor,
    drafter: PreTrainedModel,
) -> list[Size]:
    """Kept ids by the target's counts, int64 (V,), and its law, protected tokens first, for every fraction of ``tokens``, bool (V,)."""
    width = drafter.get_output_embeddings().weight.shape[1]
    order = rank(counts, protected[tokens[protected]], tokens, prior)
    found = []
    for fraction in fractions:
        kept = order[: max(len(protected), round(fraction * len(order)))].sort().values
        kept = torch.arange(len(counts)) if fraction == 1 else kept
        found.append(Size(kept, len(counts), Statistics(len(counts)), Moments(width, len(counts))))
    return found


def _tails(settings: SweepConfig | DictConfig) -> list[tuple[int, float]]:
    return [(int(number), float(share)) for number, share in settings.tails]


@dataclass(frozen=True)
class _Training:
    """What of a size is trained, each kept in a file of ``out``: a finished one is read back."""

    settings: SweepConfig
    windows: list[Tensor]
    seed: int
    out: Path
    advance: Advance

    def tail(self, both: Both, size: Size) -> Tail:
        """The tail `trained` after training."""
        settings, path = self.settings, self.out / f"tail-{len(size.kept):06d}.safetensors"
        number, share = settings.trained
        free = size.tails[named(int(number), float(share))]
        if path.exists():
            self.advance(settings.steps, kept=True)
            return Tail(**load_file(path))
        plan, work = self._plan(settings.steps, settings.rate), self.out / f".{path.stem}"
        short = pruned_form(both.drafter, size.kept)
        tail = trained_tail(short, free, both.target, self.windows, plan, work, self.advance)
        write_atomic(path, save(vars(tail)))
        return tail

    def healed(self, both: Both, size: Size) -> PreTrainedModel:
        """The drafter with its trained tail after a short training of head and norms together."""
        settings, path = self.settings, self.out / f"healed-{len(size.kept):06d}.safetensors"
        student = tail_form(pruned_form(copy.deepcopy(both.drafter), size.kept), size.tails["tail_trained"])
        trained = healed_parameters(student)
        if path.exists():
            for name, part in load_file(path).items():
                trained[name].data.copy_(part)
            self.advance(settings.heal_steps, kept=True)
            return student
        plan, work = self._plan(settings.heal_steps, settings.heal_rate), self.out / f".{path.stem}"
        train(student, trained, both.target, self.windows, plan, work, self.advance)
        write_atomic(path, save({name: part.detach().float().cpu().contiguous() for name, part in trained.items()}))
        return student

    def _plan(self, steps: int, rate: float) -> Plan:
        return Plan(steps, self.settings.batch, rate, self.settings.tv_from, self.seed, 1.0)


def _costs(both: Both, sizes: list[Size], target: Checkpoint, prompt: Tensor, runs: int, lookahead: int) -> Costs:
    """Forwards of the target, of the unpruned drafter, and of every size with and without tails."""
    models = {"full": both.drafter}
    for size in sizes:
        if not size.whole:
            models[f"{len(size.kept)}"] = pruned_form(both.drafter, size.kept)
            models |= {f"{len(size.kept)}/{name}": model for name, model in size.forms(both.drafter).items()}
    pairs = {name: TransformersPair(both.target, model, target.eos) for name, model in models.items()}
    return measure_costs(pairs, prompt, [1, lookahead + 1], runs)


def _rows(
    size: Size,
    kinds: dict[str, str],
    methods: dict[str, vocabulary_curve.Sums],
    sampling: Sampling,
    costs: Costs,
    drafter: PreTrainedModel,
    lookahead: int,
) -> list[curve.Row]:
    whole = drafter.get_output_embeddings().weight
    verify, found = costs.target[lookahead + 1].median, []
    for method, sums in methods.items():
        if method == "full" and not size.whole:
            continue
        tail = size.tails.get("tail_trained" if method == HEALED else method)
        name = "full" if method == "full" else f"{len(size.kept)}/{method}" if tail else f"{len(size.kept)}"
        report = sums.report()
        d, accepted = costs.drafters[name].median, report["acceptance"] or 0.0
        numbers = len(size.kept) * whole.shape[1] + (0 if tail is None else tail.numbers)
        speed = None if method == "oracle" else vocabulary_curve.tokens_per_second(accepted, lookahead, d, verify)
        row: curve.Row = {
            "temperature": sampling.temperature, "top_p": sampling.top_p, "kept": len(size.kept),
            "kept_share": len(size.kept) / size.vocabulary, "method": method, "candidate": kinds.get(method),
            "acceptance": report["acceptance"], "low": report["low"], "high": report["high"],
            "head_share": numbers / whole.numel(), "d_milliseconds": 1e3 * d, "tokens_per_second": speed,
        }  # fmt: skip
        if "tli" in methods:
            row["over_tli"] = vocabulary_curve.gain(sums, methods["tli"])
        found.append(row)
    return found


def key_config(cfg: DictConfig) -> dict[str, object]:
    """Settings, protected tokens, drafted length, text and seed."""
    return {**texts.key_values(cfg, "sweep"), "protect": OmegaConf.to_container(cfg.prune.protect)}


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    texts.check(cfg, "sweep")
    settings = cfg.sweep
    if not settings.fractions or not all(0 < share <= 1 for share in settings.fractions):
        raise ConfigError(f"sweep.fractions={settings.fractions}: expected shares above 0 and up to 1")
    for row in [*settings.tails, settings.trained]:
        try:
            number, share = row
            sound = number >= 1 and int(number) == number and 0 < share <= 1
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise ConfigError(f"sweep.tails: expected rows [rank from 1, share covered in (0, 1]], got {row}")
    names = [named(*tail) for tail in _tails(settings)]
    if len(set(names)) < len(names):
        raise ConfigError(f"sweep.tails={settings.tails}: expected tails of different names, got {', '.join(names)}")
    if settings.steps and tuple(settings.trained) not in _tails(settings):
        raise ConfigError(f"sweep.trained={settings.trained}: expected one of sweep.tails={settings.tails}")
    try:
        for temperature, top_k, top_p in settings.samplings:
            Sampling(float(temperature), int(top_k), float(top_p))
    except ValueError as error:
        raise ConfigError(f"sweep.samplings: expected rows of temperature, top-k, top-p: {error}") from error


def inputs(cfg: DictConfig) -> dict[str, str]:
    """Counts rank the tokens; the target's own text where it is asked for."""
    return {"count": "count"} | ({"generate": "generate"} if cfg.sweep.source == "generations" else {})


STAGE = Stage(
    name="sweep",
    run=run,
    inputs=inputs,
    config=key_config,
    external=lambda cfg: texts.external(cfg, "sweep"),
    check=check,
    decodes=always,
    measures=True,
    show=curve.show,
)
