"""publish: lay the package, its evaluation, its certificate and its card into one folder, and bring that to the Hub.

Reads `package` and `eval` with what it recommends, and the certificate of `lossless` where this code has one. Without ``push=true``
nothing leaves this machine: the folder is rendered, checked and shown. With it, the folder becomes one commit, as a
pull request first; see `drafters.publish.upload`. Tokens come from HF_TOKEN or from ``hf auth login``, never from here.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi, ModelCard, get_token
from huggingface_hub.utils.tqdm import disable_progress_bars
from omegaconf import DictConfig
from rich.console import Console

from drafters.io.borrowed_json import BORROWED
from drafters.io.hub import local_source
from drafters.io.manifest import NAME, list_files, read_manifest
from drafters.io.safe_load import read_json
from drafters.io.secrets import require_clean
from drafters.package.integrity import RECOMMENDED, verify
from drafters.package.recommendation.recommended_json import (
    Recommendation,
    find_recommendation,
    read_file,
    write_recommendation,
)
from drafters.publish.card import CardFacts, render
from drafters.publish.licences import inherit
from drafters.publish.upload import REPOSITORY, Receipt, publish_folder
from eval.lossless.certificate import read_certificate
from eval.report.html.page import NAME as PAGE
from eval.report.html.page import render as render_page
from eval.report.schema import to_json
from eval.report.sources import Certificate, Further, read_report
from pipeline.config.settings import read
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context, Stage, say

UPLOAD, RECEIPT, CERTIFICATE = "upload", "receipt.json", "certificate.json"


@dataclass
class PublishConfig:
    """Where to, and how far; the default renders everything and sends nothing."""

    repo: str | None = None  # org/name on the Hub
    # false: render everything, send nothing; true: one commit, as a pull request
    push: bool = False
    merge: bool = False  # merge the verified pull request, and tag the result
    public: bool = False  # make the repository public after that
    tag: str | None = None  # null: v<format>-<key of the package>
    licence: str | None = None  # as a check: must be the drafter's
    licence_name: str | None = None  # of a licence of its own (package.licence=other)
    licence_link: str | None = None


def run(context: Context) -> None:
    """Render the folder, check it, and send it if asked to."""
    settings, folder = read(context.cfg.publish, PublishConfig), context.out / UPLOAD
    shutil.rmtree(folder, ignore_errors=True)
    certificate = read_certificate(context.cfg.runs_dir)
    tag = lay_out(settings, context.inputs["package"], context.inputs["eval"], certificate, folder)
    receipt = None
    if settings.push:
        with context.progress("Uploading", None):
            receipt = send(settings, folder, tag, certificate is not None)
    note = {"repo": settings.repo, "tag": tag, "sent": None if receipt is None else vars(receipt)}
    (context.out / RECEIPT).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def lay_out(
    settings: PublishConfig, package: Path, evaluation: Path, certificate: Mapping[str, Any] | None, folder: Path
) -> str:
    """Write the upload folder; returns the tag. Raises LicenceError, SecretFound, PackageError."""
    verify(local_source(package, package.name))
    for name in [*list_files(package), NAME]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / name, folder / name)
    report = read_json(evaluation, "report.json")
    manifest = read_manifest(package)
    advised = recommendation_for(package, evaluation, manifest.content)
    if advised is not None:
        write_recommendation(folder / RECOMMENDED, advised)
    (folder / "eval").mkdir()
    for name in ("report.json", "report.csv", "report.html"):
        if (evaluation / name).is_file():
            shutil.copyfile(evaluation / name, folder / "eval" / name)
    if (texts := report.get("texts")) is not None and texts["own"] is not True:
        write_without_texts(evaluation, folder / "eval", certificate)
    if certificate is not None:
        (folder / CERTIFICATE).write_text(json.dumps(certificate, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tag = settings.tag or f"v{manifest.format_version}-{manifest.key}"
    (folder / "README.md").write_text(card(settings, folder, tag, report, certificate, advised), encoding="utf-8")
    require_clean(folder)
    verify(local_source(folder, folder.name))  # still a package, with everything that lies beside it
    return tag


def write_without_texts(evaluation: Path, folder: Path, certificate: Mapping[str, Any] | None) -> None:
    """Write report.json and its page anew without the answers to prompts that did not come with this code: they may be private."""
    report = replace(read_report(evaluation / "report.json"), texts=None)
    (folder / "report.json").write_bytes(to_json(report))
    (folder / PAGE).write_bytes(render_page(report, Further(certificate=cast(Certificate | None, certificate))))


def recommendation_for(package: Path, evaluation: Path, content: str) -> Recommendation | None:
    """What the evaluation that is published recommends, else what lies beside the package; None where nothing does.

    Raises PackageError for one that is malformed or another package's: no such is published.
    """
    own = evaluation / RECOMMENDED
    path = own if own.is_file() else find_recommendation(package)
    return None if path is None else read_file(path, content)


def card(
    settings: PublishConfig,
    folder: Path,
    tag: str,
    report: Mapping[str, Any],
    certificate: Mapping[str, Any] | None,
    advised: Recommendation | None = None,
) -> str:
    """The README.md of the folder, read back once by huggingface_hub as the Hub will."""
    description = read_json(folder, "drafters.json")
    licence = inherit(
        description["drafter"]["licence"],
        (folder / "LICENSE").read_text(encoding="utf-8"),
        declared=settings.licence,
        own_name=settings.licence_name,
        link=settings.licence_link,
        repository=settings.repo or "",
    )
    facts = CardFacts(
        settings.repo or "org/name",
        description,
        licence,
        tag,
        report,
        certificate,
        advised,
        (folder / BORROWED).exists(),
    )
    text = render(facts)
    ModelCard(text)
    return text


def send(settings: PublishConfig, folder: Path, tag: str, certified: bool) -> Receipt:
    """One commit to the Hub. Raises ConfigError before anything is sent, UploadError after that."""
    if not certified:
        raise ConfigError(
            "publish.push=true: no certificate of losslessness was given to exactly this code, and nothing is published "
            "without one: run `make lossless` first, then the same command"
        )
    if get_token() is None:
        raise ConfigError("publish.push=true: no token: run `hf auth login`, or set HF_TOKEN to one that may write")
    if not sys.stderr.isatty():
        disable_progress_bars()
    return publish_folder(HfApi(), settings.repo or "", folder, tag, merge=settings.merge, public=settings.public)


def show(directory: Path, inputs: dict[str, Path], console: Console) -> None:
    """What was sent, or what would be, and the next command."""
    note = json.loads((directory / RECEIPT).read_text(encoding="utf-8"))
    folder = directory / UPLOAD
    names = list_files(folder)
    size = sum((folder / name).stat().st_size for name in [*names, NAME])
    lines = [f"{len(names) + 1} files, {size / 1e6:,.1f} MB, tag {note['tag']}: {folder}"]
    sent, target = note["sent"], ", target=TARGET" if (folder / BORROWED).exists() else ""
    if sent is None:
        lines += ["nothing was sent; read README.md there, then:", '  make publish ARGS="repo=org/name push=true"']
    elif sent["pull_request"] is not None:
        lines += [
            f"pull request {sent['pull_request']} of {sent['repository']} holds exactly these files ({sent['commit']})",
            f'  merge, tag: make publish ARGS="repo={sent["repository"]} push=true merge=true"',
        ]
    else:
        seen = "public" if sent["public"] else "private"
        lines += [f"published ({seen}): drafters.load({sent['repository']!r}, revision={sent['commit']!r}{target})"]
    say(console, "\n".join(lines), whole=True)


def check(cfg: DictConfig) -> None:
    """Refuse impossible settings before anything runs."""
    own = cfg.publish
    if own.repo is not None and (not REPOSITORY.fullmatch(own.repo) or ".." in own.repo):
        raise ConfigError(f"publish.repo={own.repo}: expected org/name")
    if own.push and own.repo is None:
        raise ConfigError("publish.push=true needs publish.repo=org/name")
    if (own.merge and not own.push) or (own.public and not own.merge):
        raise ConfigError("publish.public=true needs publish.merge=true, and that publish.push=true")


def external(cfg: DictConfig) -> dict[str, str]:
    """The certificates there are: another one makes another card."""
    folder = Path(cfg.runs_dir) / "lossless"
    return {"lossless": str(folder)} if any(folder.glob(f"*/{CERTIFICATE}")) else {}


STAGE = Stage(
    name="publish",
    run=run,
    inputs=lambda cfg: {"package": "package", "eval": "eval"},
    external=external,
    check=check,
    show=show,
)
