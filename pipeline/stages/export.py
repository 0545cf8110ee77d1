"""export: the package in the form that one other engine reads, opened once as that engine opens it.

Reads `package`. Writes the files of `drafters.export` and ``export.json``: what they are, how to serve them, and
what their reader cannot do with them.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from drafters.export.catalog import NOTE, choose, export
from drafters.export.common import DIR, LENGTH, ExportRequest, filled
from drafters.io.hub import Source
from drafters.io.json_rules import DESCRIPTION
from drafters.io.manifest import list_files
from drafters.io.paths import REPOSITORY
from drafters.io.safe_load import read_json
from drafters.models.gguf.cache import is_gguf
from drafters.models.model_folder import quiet
from drafters.models.pair import open_checkpoint
from drafters.package.reader import load
from drafters.package.recommendation.advice import law, served_length
from drafters.package.recommendation.recommended_json import find_recommendation, read_recommendation
from drafters.package.writer import folder_revision
from drafters.package_error import PackageError
from drafters.probs import Sampling
from pipeline.config.settings import pair_of, read
from pipeline.runner.stage import Context, Stage, pair_external, say

RECOMMENDED_FORM = {"full": "package", "padded": "unpruned"}  # which of a recommendation's drafters a form is


@dataclass
class ExportConfig:
    """Which reader, and in which form; see `drafters.export.catalog`."""

    to: str | None = None  # transformers | vllm | sglang | speculators
    # full: head, embedding and tokenizer pruned | padded: unpruned, with the target's number of rows | map: the kept ids
    form: str | None = None


def run(context: Context) -> None:
    """Write the export aside, with its load check, then move it into place."""
    folder = context.inputs["package"]
    aside = context.out / f".export.tmp-{os.getpid()}"
    aside.mkdir()
    settings, pair = read(context.cfg.export, ExportConfig), pair_of(context.cfg)
    package = load(folder, target=pair["target"], target_revision=pair["target_revision"], device="cpu", dtype="fp32")
    drafter = lambda: original(pair, package.description["drafter"]["revision"])  # noqa: E731
    with context.progress("Exporting and loading it again", None), quiet(always=True):
        export(ExportRequest(package, folder, drafter, aside), settings.to or "", settings.form)
    for name in list_files(aside):
        (context.out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(aside / name, context.out / name)
    shutil.rmtree(aside)


def original(pair: Mapping[str, Any], revision: str | None) -> Source:
    """The checked folder of the drafter before it was pruned, proven to be the one that the package was made from.

    Raises PackageError for another one.
    """
    source = open_checkpoint("drafter", pair).source
    found = source.revision or folder_revision(source.folder)
    if revision is not None and found != revision:
        fix = "Set pair.drafter (and pair.drafter_revision) to the model that the package was made from."
        raise PackageError("drafters.json", "drafter.revision", revision, found, fix)
    return source


def show(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    """The serve command and the limits."""
    note = json.loads((directory / NOTE).read_text(encoding="utf-8"))
    size = sum((directory / name).stat().st_size for name in list_files(directory))
    length, advised = draft_length(note, inputs["package"])
    serve = filled(note["serve_template"], length, str(inputs["target"]), str(directory))
    lines = [f"load check: {note['checked']}; {size / 1e6:,.1f} MB", serve, *advised]
    lines += [f"- {limit.replace(DIR, str(directory))}" for limit in note["limits"]]
    say(console, "\n".join(lines), whole=True)


def draft_length(note: Mapping[str, Any], package: Path) -> tuple[int, list[str]]:
    """The draft length that the package's evaluation recommends now, and what to say of it.

    The export itself keeps the length that the package was prepared for: an evaluation comes later and may come again.
    """
    prepared = int(note["lookahead"])
    if LENGTH not in note["serve_template"] or find_recommendation(package) is None:
        return prepared, []
    try:
        found = read_recommendation(package)
        generation = read_json(package, DESCRIPTION)["generation"]
        sampling = Sampling(*(generation[name] for name in ("temperature", "top_k", "top_p")))
    except PackageError as error:
        return prepared, [f"- recommendation not used: {error}"]
    lines = []
    if (choice := found.choice(found.device, sampling)) is not None and choice.use.plain:
        lines = [f"- eval on {found.device} found no gain from drafting at {law(choice)}: {choice.reason}"]
    length = served_length(found, RECOMMENDED_FORM[note["form"]], sampling)
    if length is None:
        return prepared, lines
    said = f"- {length} tokens per round, as eval on {found.device} recommends for T = {sampling.temperature:g}"
    return length, [f"{said}; measure where you serve", *lines]


def check(cfg: DictConfig) -> None:
    """Refuse, before anything runs, what the reader cannot load."""
    choose(cfg.export.to, cfg.export.form)


def external(cfg: DictConfig) -> dict[str, str]:
    """The drafter: rows of its head that the package lacks come from it."""
    return pair_external(cfg, "drafter")


def named(cfg: DictConfig) -> dict[str, Path]:
    """The target as the serve command names it: a local folder by its path (of a GGUF the converted one), else the Hub's name."""
    if is_gguf(cfg.pair.target):
        return {"target": open_checkpoint("target", pair_of(cfg)).source.folder}
    given = Path(cfg.pair.target).expanduser()
    folders = [
        path for path in (given, REPOSITORY / given) if path.is_dir()
    ]  # the embedded pair is found from anywhere
    return {"target": folders[0].resolve() if folders else given}


STAGE = Stage(
    name="export",
    run=run,
    inputs=lambda cfg: {"package": "package"},
    external=external,
    check=check,
    show=show,
    named=named,
)
