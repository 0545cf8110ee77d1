"""cut: a drafter where none exists: some of the target's layers with its embedding and head, trained on the target's own text.

The target reads the text once; what its head reads at every position is kept beside the runs, so that another training, or one with more
text, costs the drafter's forward and backward passes alone. Trained are the layers and the final norm, on the law of the most frequent
tokens and of all others together; KL divergence first, then total variation. The best weights by acceptance on prompts that were not
trained on are kept. Writes ``drafter/``, a model folder, and ``cut.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from drafters.io.atomic import write_json
from drafters.io.hub import Source
from drafters.io.manifest import versions
from drafters.io.safe_load import read_json
from drafters.models.borrowed import write_borrowed
from drafters.models.devices import choose_device, choose_dtype
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import Checkpoint, open_checkpoint, vocabulary_size
from drafters.package.writer import plain_name
from drafters.vocab.keep import select
from drafters.vocab.protected import protected_tokens
from eval.run.progress import bytes_in_words, duration
from pipeline.config.settings import pair_of, plain, read
from pipeline.cut import teacher
from pipeline.cut.columns import Head
from pipeline.cut.figures import DEFINITIONS, figures, in_words
from pipeline.cut.layers import choose_layers, cut
from pipeline.cut.module import OPTIMIZERS
from pipeline.cut.text import Document, documents, groups, parts_of
from pipeline.cut.training import Plan, measured, train
from pipeline.errors import ConfigError
from pipeline.fit.schedule import Schedule
from pipeline.runner.content_key import external_hash
from pipeline.runner.stage import Context, Stage, pair_external, say

REPORT, DRAFTER = "cut.json", "drafter"
CACHE = ".teacher"  # beside the stage's outputs: shards are named by their content, and serve every run


@dataclass
class CutConfig:
    """Which layers, what text, how it is trained.

    The budget ends at whichever of ``steps`` and ``minutes`` comes first. One in steps gives the same weights wherever it was
    killed, on the same machine; one in minutes ends after as many steps as the machine made.
    """

    layers: list[int] | None = None  # of the target, ascending, e.g. [0, 29]; null: the first `count`
    count: int = 2
    start: str | None = (
        None  # folder of an earlier run's drafter with as many layers, to train on; null: the target's weights
    )
    own_text: bool = True  # read what the stage generate makes; false: more_text alone
    more_text: list[str] = field(default_factory=list)  # further folders of generate's shards
    window: int = 512  # tokens of a document, its prompt included
    held_out: float = 0.06  # share of the prompts kept from training: half to stop it, half to say what it is worth
    check_tokens: int = 6_000  # of either half that are read at a measurement
    rows: int = 5_120  # most frequent tokens that have a column of their own; all others share one
    negatives: int = 2_048  # of the others, sampled anew for every step, by which their common column is estimated
    # adam: of all | muon: of matrices, Adam for norms; its steps take longer, which a CPU feels at small batches
    optimizer: str = "adam"
    matrix_rate: float = 0.01  # of Muon
    rate: float = 0.002  # of Adam
    batch: int = 2_048  # tokens of a step, padding included
    steps: int = 100_000
    minutes: float = 60.0  # on a CPU those it computed, per thread; see pipeline.fit.schedule
    warmup: float = 0.02  # share of the budget over which the rate rises
    decay: float = 0.4  # share of the budget over which it falls to zero
    tv_from: float = 0.5  # share of the budget after which the loss goes over from KL to total variation
    every: int = 100  # steps between two measurements of acceptance
    patience: int = 10  # measurements without a better one that end the training
    # Write the drafter without what its target has bit for bit (embedding, head, tokenizer): see borrowed.json in the docs
    borrow: bool = False


def run(context: Context) -> None:
    """Cut, let the target read, train, measure, write."""
    cfg, settings = context.cfg, read(context.cfg.cut, CutConfig)
    checkpoint = open_checkpoint("target", pair_of(cfg))
    layers = choose_layers(checkpoint.config, settings.layers, settings.count)
    folders = [*([context.inputs["generate"]] if settings.own_text else []), *map(Path, settings.more_text)]
    texts = list(groups(documents(folders, settings.window, settings.held_out)))
    found = [document for group in texts for document in group]
    parts = parts_of(found, settings.held_out, settings.check_tokens)  # before the target reads for hours
    cache = teacher.Cache(_read(context, checkpoint, texts), texts)
    kept = _kept(checkpoint, cache.documents, parts["fit"], settings.rows)
    with context.progress("Opening the target", None), quiet(always=True):
        student = _student(context, checkpoint, layers, settings.start)
    head = Head.of(student, cfg.package.temperature)
    with context.progress(
        "Measuring the cut", sum(len(cache.documents[n].ids) for n in parts["test"]), "tokens"
    ) as bar:
        before = measured(student, head, cache, parts["test"], bar.advance)
    say(context.console, f"layers {layers}, untrained: {in_words(figures(before))}")
    with context.progress("Training", 1000) as bar:
        best, module = train(student, kept, cache, parts, _plan(cfg, settings), context.out / ".training", bar.advance)
    with context.progress(
        "Measuring the drafter", sum(len(cache.documents[n].ids) for n in parts["test"]), "tokens"
    ) as bar:
        after = measured(student, head, cache, parts["test"], bar.advance)
    _write(context.out / DRAFTER, student, checkpoint)
    if settings.borrow:
        write_borrowed(context.out / DRAFTER, checkpoint.source.folder, target_id=_lender(checkpoint.source))
    report = {
        "target": _lender(checkpoint.source),
        "layers": layers,
        "parameters": sum(part.numel() for part in student.parameters()),
        "trained_parameters": sum(part.numel() for part in module.trained.values()),
        "documents": {part: len(numbers) for part, numbers in parts.items()},
        "text_tokens": sum(len(cache.documents[number].ids) for number in parts["fit"]),
        "tokens_seen": module.tokens,
        "steps": module.updates,
        "minutes": module.spent / 60,
        "best_step": best.step,
        "rows": len(kept),
        "before": figures(before),
        "after": figures(after),
        "history": best.history,
        "temperature": head.temperature,
        "settings": plain(cfg.cut),
        "seed": int(cfg.seed),
        "versions": versions(),
        "definitions": DEFINITIONS,
    }
    if settings.start is not None and (earlier := Path(settings.start).parent / REPORT).exists():
        report["continued_from"] = read_json(earlier.parent, REPORT)
    shutil.rmtree(context.out / ".training", ignore_errors=True)
    write_json(context.out / REPORT, report)


def _read(context: Context, checkpoint: Checkpoint, texts: Sequence[Sequence[Document]]) -> list[Path]:
    """The shards of the teacher's cache, made where they are missing."""
    cfg, tokens = context.cfg, sum(len(document.ids) for group in texts for document in group)
    device = choose_device(cfg.device)
    number, heat = choose_dtype(cfg.dtype, device), cfg.package.temperature or 1.0
    target = external_hash("pair.target", pair_external(cfg, "target")["target"])
    folder = context.out.parent / CACHE / target.rpartition("@")[2][:16]
    paths = [teacher.shard_path(folder, f"{target} {heat} {number} {device.type}", group) for group in texts]
    size = teacher.bytes_per_token(checkpoint.config.get_text_config().hidden_size)

    def opened() -> Any:
        with quiet(always=True):
            model = open_model(checkpoint.source, checkpoint.config, number, device)
        left = sum(
            len(document.ids)
            for path, group in zip(paths, texts, strict=True)
            if not path.exists()
            for document in group
        )
        seconds = left * teacher.seconds_per_token(model, heat, texts[0][0])
        say(
            context.console,
            f"the target reads {left:,} tokens once: {bytes_in_words(left * size)}, about {seconds / 60:.1f} min",
        )
        return model

    with context.progress("Reading with the target", tokens, "tokens") as bar:
        teacher.fill(paths, texts, opened, heat, bar.advance)
    return paths


def _kept(checkpoint: Checkpoint, found: Sequence[Document], fit: Sequence[int], rows: int) -> Tensor:
    """The ids, int64 (D,) ascending, that have columns of their own: protected ones, then by count."""
    size = vocabulary_size(checkpoint.config)
    counts = torch.cat([found[number].ids for number in fit]).bincount(minlength=size)
    protected = protected_tokens(checkpoint.tokenizer, [end for end in checkpoint.eos if end < size])
    return select(counts, protected, size=min(rows, size)).kept


def _student(context: Context, checkpoint: Checkpoint, layers: Sequence[int], start: str | None) -> Any:
    """The cut in fp32, with an earlier run's weights where one is gone on from."""
    device = choose_device(context.cfg.device)
    student = cut(open_model(checkpoint.source, checkpoint.config, torch.float32, torch.device("cpu")), layers)
    if start is not None:
        earlier = open_checkpoint("drafter", {"drafter": start, "drafter_revision": None})
        model = open_model(earlier.source, earlier.config, torch.float32, torch.device("cpu"))
        try:
            student.load_state_dict(model.state_dict())
        except RuntimeError as error:
            own = model.config
            raise ConfigError(
                f"cut.start={start}: expected a drafter of {len(layers)} layers of this target, as cut.count and cut.layers ask, "
                f"got a {own.model_type} of {own.num_hidden_layers} layers, width {own.hidden_size}"
            ) from error
    return student.to(device)


def _plan(cfg: DictConfig, own: CutConfig) -> Plan:
    schedule = Schedule(own.steps, own.minutes, own.matrix_rate, own.rate, own.warmup, own.decay, own.tv_from)
    return Plan(
        schedule,
        own.optimizer,
        own.batch,
        own.negatives,
        own.every,
        own.patience,
        int(cfg.seed),
        cfg.package.temperature,
    )


def _lender(source: Source) -> str:
    """Name the target as the user did, without a path of this machine."""
    public = source.id.startswith("pypi:") or not (source.revision or "sha256:").startswith("sha256:")
    return source.id.partition("#")[0] if public else plain_name(Path(source.id).name)


def _write(folder: Path, student: Any, checkpoint: Checkpoint) -> None:
    """Write the drafter in the numbers its target is stored in, with the target's tokenizer."""
    stored = getattr(checkpoint.config, "dtype", None)
    with quiet(always=True):
        student.to(stored if isinstance(stored, torch.dtype) else torch.float32).save_pretrained(folder)
        checkpoint.tokenizer.save_pretrained(folder)


def show(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    """Print what the drafter is worth, and how to use it."""
    report = read_json(directory, REPORT)
    say(
        console, f"layers {report['layers']} of {report['target']}, on unseen prompts at T = {report['temperature']:g}:"
    )
    say(console, f"  untrained: {in_words(report['before'])}")
    say(console, f"  trained:   {in_words(report['after'])}")
    say(
        console,
        f"  trained on {report['tokens_seen']:,} tokens, its {report['text_tokens']:,} tokens of text "
        f"{report['tokens_seen'] / report['text_tokens']:.1f} times, in {duration(60 * report['minutes'])}; "
        f"{report['steps']:,} steps, the best weights after {report['best_step']:,}",
    )
    say(console, f"use it with: pair.drafter={directory / DRAFTER}", whole=True)


def brief(directory: Path) -> str:
    """Summarise the run in one line: acceptance before and after."""
    report = read_json(directory, REPORT)
    return f"acceptance {report['before']['acceptance']['mean']:.3f} -> {report['after']['acceptance']['mean']:.3f}"


def config(cfg: DictConfig) -> dict[str, object]:
    """The settings, the seed and the temperature served; texts and an earlier drafter count by content, not by place."""
    settings = plain(cfg.cut)
    del settings["more_text"], settings["start"]
    return {**settings, "seed": int(cfg.seed), "temperature": cfg.package.temperature}


def external(cfg: DictConfig) -> dict[str, str]:
    """The target, further texts, and the drafter that is trained on."""
    found = pair_external(cfg, "target") | {f"text {n}": str(path) for n, path in enumerate(cfg.cut.more_text)}
    return found if cfg.cut.start is None else found | {"start": str(cfg.cut.start)}


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for settings that cannot work, before anything is loaded."""
    settings = cfg.cut
    if settings.optimizer not in OPTIMIZERS:
        raise ConfigError(f"cut.optimizer={settings.optimizer}: choose one of: {', '.join(OPTIMIZERS)}")
    for name, least in (("count", 1), ("window", 8), ("check_tokens", 1), ("rows", 1), ("negatives", 1), ("batch", 2), ("every", 1),
                        ("patience", 1), ("steps", 1)):  # fmt: skip
        if settings[name] < least:
            raise ConfigError(f"cut.{name}={settings[name]}: expected a whole number from {least}")
    for name in ("rate", "matrix_rate", "minutes"):
        if not settings[name] > 0:
            raise ConfigError(f"cut.{name}={settings[name]}: expected a number above 0")
    if not 0 < settings.held_out < 1:
        raise ConfigError(f"cut.held_out={settings.held_out}: expected a share above 0 and below 1")
    if not settings.own_text and not settings.more_text:
        raise ConfigError("cut.own_text=false: give folders of generate's shards with cut.more_text=[DIR]")


STAGE = Stage(
    name="cut",
    run=run,
    inputs=lambda cfg: {"generate": "generate"} if cfg.cut.own_text else {},
    config=config,
    external=external,
    check=check,
    show=show,
    brief=brief,
)
