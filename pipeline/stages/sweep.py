"""sweep: acceptance against the share of kept tokens for every way to spend the pruned mass, and the size that pays here.

All sizes and methods are judged on the same positions of text that nothing was fitted to, under every sampling. Writes
``curve.json``: rows with 95 % intervals, paired gains over TLI, head weights and milliseconds, predicted tokens per second
from this machine's measured forwards, and the knee per sampling. ``curve.csv`` holds the same rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from drafters.affinity.prior import Statistics
from drafters.engine.transformers_pair import TransformersPair
from drafters.models.devices import choose_device, choose_dtype
from drafters.models.forms import pruned_form
from drafters.models.heads import grow_embedding
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.models.tail import Moments
from drafters.probs import Sampling
from drafters.vocab.keep import rank
from drafters.vocab.protected import protected_tokens
from eval.acceptance import vocabulary_curve
from eval.costs.forwards import Costs, measure_costs
from eval.suites import suite as suites
from pipeline.config import text_settings as texts
from pipeline.config.settings import named_suites, pair_of, read, suite_key
from pipeline.config.text_settings import text_of
from pipeline.count.law import prior_of
from pipeline.errors import ConfigError
from pipeline.fit.remembered import Remembered
from pipeline.fit.tail_fit import named
from pipeline.fit.text_and_models import documents
from pipeline.fit.text_and_models import parts as deal_out
from pipeline.fit.trainer import Plan
from pipeline.runner.stage import Advance, Context, Stage, always, say
from pipeline.sweep import curve
from pipeline.sweep.answers import answers
from pipeline.sweep.passes import Both, Passage, calibrate, fit, refine, test
from pipeline.sweep.size import HEALED, Size
from pipeline.sweep.training import Training

SUITES = "sweep.suites"


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
    # Further texts of the curve: the target's own answers to these prompts: <file of conf/suite>: local copy of its rows, or null
    suites: dict[str, str | None] = field(default_factory=dict)
    suite_prompts: int = 24  # of each
    suite_tokens: int = 96  # of an answer, at most


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
    both = Both(Remembered(big), Remembered(small), settings.stride)
    dealt = deal_out(documents(text_of(context, "sweep"), settings, target), settings)
    parts = {part: [Passage(*window) for window in windows] for part, windows in dealt.items()}
    with context.progress("Answering the suites' prompts", None):
        further = _answers(settings, TransformersPair(big, small, target.eos), target, cfg.seed, context.out)
    every_text = {curve.OWN: parts["test"], **further}
    protected = protected_tokens(target.tokenizer, target.eos, list(cfg.prune.protect))
    tables = load_file(context.inputs["count"] / "counts.safetensors")
    counts, prior = tables["counts"], prior_of(tables)
    sizes = _sizes(counts, prior, protected, settings.fractions, match.tokens.to_drafter >= 0, small)
    sampled = [Sampling(float(t), int(k), float(p)) for t, k, p in settings.samplings]
    judged = sum(map(len, parts.values())) + sum(map(len, further.values()))
    trained = sum(not size.whole for size in sizes)
    total = len(parts["fit"]) + judged * len(sampled) + (settings.steps + settings.heal_steps) * trained
    say(context.console, f"{len(sizes)} sizes under {len(sampled)} samplings on {judged} windows of text")
    with context.progress("Sweeping", total) as bar:
        laws = fit(both, sizes, parts["fit"], settings.kernel_contexts, bar.advance)
        training = _training(settings, both, parts["fit"], cfg.seed, context.out, bar.advance)
        for size in sizes:
            size.fit(small.get_output_embeddings(), _tails(settings), settings.neighbours, laws, settings.kernel_bytes)
            if settings.steps and not size.whole:
                size.tails["tail_trained"] = tail = training.tail(size)
                size.healed = training.healed(size, tail) if settings.heal_steps else None
        costs = _costs(both, sizes, target, parts["test"][0].ids, settings.cost_runs, cfg.package.lookahead)
        found = []
        for sampling in sampled:
            refine(both, sizes, parts["fit"], sampling, bar.advance)
            chosen = calibrate(both, sizes, parts["calibrate"], sampling, bar.advance)
            for text, passages in every_text.items():
                sums = test(both, sizes, chosen, passages, sampling, bar.advance)
                for size, kinds, methods in zip(sizes, chosen, sums, strict=True):
                    found += _rows(text, size, kinds, methods, sampling, costs, small, cfg.package.lookahead)
    curve.write(context.out, found, costs)
    for work in context.out.glob(".*-*"):  # checkpoints of what is trained, answers
        shutil.rmtree(work) if work.is_dir() else work.unlink()


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


def _training(
    settings: SweepConfig, both: Both, text: list[Passage], seed: int, out: Path, advance: Advance
) -> Training:
    def plan(steps: int, rate: float) -> Plan:
        return Plan(steps, settings.batch, rate, settings.tv_from, seed, 1.0)

    number, share = settings.trained
    tail, heal = plan(settings.steps, settings.rate), plan(settings.heal_steps, settings.heal_rate)
    windows = [passage.ids for passage in text]
    free = named(int(number), float(share))
    return Training(both.target, both.drafter.model, free, tail, heal, windows, out, advance)


def _answers(
    settings: SweepConfig, pair: TransformersPair, target: Checkpoint, seed: int, out: Path
) -> dict[str, list[Passage]]:
    """The target's answers by suite."""
    found = {}
    for suite in named_suites(settings.suites, SUITES):
        prompts = suites.load(suite, target.tokenizer, settings.suite_prompts, seed)
        ids = [suites.encode(prompt, target.tokenizer) for prompt in prompts]
        found[suite.name] = answers(pair, ids, settings.suite_tokens, seed, out / f".answers-{suite.name}")
    return found


def _costs(both: Both, sizes: list[Size], target: Checkpoint, prompt: Tensor, runs: int, lookahead: int) -> Costs:
    """Forwards of the target, of the unpruned drafter, and of every size with and without tails."""
    drafter = both.drafter.model
    models = {"full": drafter}
    for size in sizes:
        if not size.whole:
            models[f"{len(size.kept)}"] = pruned_form(drafter, size.kept)
            models |= {f"{len(size.kept)}/{name}": model for name, model in size.forms(drafter).items()}
    pairs = {name: TransformersPair(both.target.model, model, target.eos) for name, model in models.items()}
    return measure_costs(pairs, prompt, [1, lookahead + 1], runs)


def _rows(
    text: str,
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
            "text": text, "temperature": sampling.temperature, "top_p": sampling.top_p, "kept": len(size.kept),
            "kept_share": len(size.kept) / size.vocabulary, "method": method, "candidate": kinds.get(method),
            "acceptance": report["acceptance"], "low": report["low"], "high": report["high"],
            "head_share": numbers / whole.numel(), "d_milliseconds": 1e3 * d, "tokens_per_second": speed,
        }  # fmt: skip
        if "tli" in methods:
            row["over_tli"] = vocabulary_curve.gain(sums, methods["tli"])
            row["over_full"] = vocabulary_curve.gain(sums, methods["full"])
        found.append(row)
    return found


def key_config(cfg: DictConfig) -> dict[str, object]:
    """Settings, protected tokens, drafted length, text and seed."""
    further = [suite_key(suite) for suite in named_suites(cfg.sweep.suites, SUITES)]
    protect = OmegaConf.to_container(cfg.prune.protect)
    return {**texts.key_values(cfg, "sweep"), "suites": further, "protect": protect}


def external(cfg: DictConfig) -> dict[str, str]:
    """Both models, the text, and the suites' rows."""
    further = {f"{SUITES}.{suite.name}": str(suite.file) for suite in named_suites(cfg.sweep.suites, SUITES)}
    return texts.external(cfg, "sweep") | further


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    texts.check(cfg, "sweep")
    settings = cfg.sweep
    named_suites(settings.suites, SUITES)
    for name in ("suite_prompts", "suite_tokens"):
        if settings[name] < 1:
            raise ConfigError(f"sweep.{name}={settings[name]}: expected a whole number from 1")
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
    external=external,
    check=check,
    decodes=always,
    measures=True,
    show=curve.show,
)
