"""Metrics of a training and reports of an evaluation: always files, and Weights & Biases where the user asks for it.

``tracking.wandb=offline`` sends nothing; ``online`` takes its key from the environment or W&B's own login. A report that is
already there goes there with ``python -m pipeline track runs/eval/<key>``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from markupsafe import escape

from drafters.errors import DraftersError
from eval.command_line import read_options
from eval.report.html.page import FILES, NAME, parts, render
from eval.report.html.parts import Section, TableCell
from eval.report.row import ReportRow
from eval.report.schema import Report
from eval.report.sources import Further, further, read_report

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


# Code, remotes and the machine's description are nobody's business unless the user logs them.
PRIVATE = {
    "disable_git": True,
    "disable_code": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
}


class TrackingError(DraftersError):
    """W&B refused; what was measured is on disk."""


def loggers(name: str, out: Path, *, mode: str, project: str, runs: Path) -> list[Logger]:
    """Loggers for a Lightning Trainer (or for ``log_metrics`` by hand).

    Args:
        out: ``out/metrics/metrics.csv`` becomes part of the stage's output.
        mode: disabled, offline or online. runs: W&B's own files go there, outside of ``out``.
    """
    from lightning.pytorch.loggers import CSVLogger, WandbLogger  # here: only trainings pay for the import

    found: list[Logger] = [CSVLogger(save_dir=out, name="", version="metrics")]
    if mode != "disabled":
        found.append(WandbLogger(name=name, project=project, save_dir=runs, offline=mode == "offline"))
    return found


def log_report(report: Report, more: Further, folder: Path, *, mode: str, project: str, runs: Path) -> Path | None:
    """One W&B run with the page's tables and charts, the page itself, and the folder as an artifact by reference.

    Args:
        folder: where the report lies or will lie, ``<runs>/eval/<key>``; its files are named, not copied.
        mode: disabled, offline or online. runs: W&B's own files go to ``<runs>/wandb``.

    Returns:
        The run's folder; None where tracking is disabled.

    Raises:
        TrackingError: W&B cannot be reached or knows nobody here.
    """
    if mode == "disabled":
        return None
    import wandb  # here: it takes a second, and most runs do not track

    name, config = f"eval-{folder.name}", _config(report)
    runs.mkdir(parents=True, exist_ok=True)  # W&B would go to the system's folder for temporary files instead
    try:
        with wandb.init(
            project=project,
            name=name,
            job_type="eval",
            mode=cast(Any, mode),
            dir=str(runs),
            config=config,
            settings=wandb.Settings(console="off", silent=True, **PRIVATE),
        ) as run:
            run.log(dict(_media(report, more)))
            artifact = wandb.Artifact(name, type="evaluation", metadata=config)
            # The key in the path names the content; a checksum would read files that may not be in their place yet.
            artifact.add_reference(folder.resolve().as_uri(), checksum=False)
            run.log_artifact(artifact)
            return Path(run.dir)
    except wandb.Error as error:
        raise TrackingError(
            f"tracking.wandb={mode}: W&B did not take the report ({error}); log in with `wandb login` or use tracking.wandb=offline, "
            f"and log it again with: python -m pipeline track {folder}"
        ) from error


def _config(report: Report) -> dict[str, object]:
    """What distinguishes runs in W&B's list of runs."""
    names = ("pair", "device", "dtype", "vocabulary", "kept", "coverage", "code", "prompts")
    return {name: value for name, value in asdict(report).items() if name in names}


def _media(report: Report, more: Further) -> Iterator[tuple[str, Any]]:
    import wandb

    names = [item.name for item in fields(ReportRow)]
    yield "rows", wandb.Table(columns=names, data=[[getattr(row, name) for name in names] for row in report.rows])
    style = (FILES / "style.css").read_text(encoding="utf-8")
    for part in parts(report, more):
        if not isinstance(part, Section):
            continue
        for number, table in enumerate(part.tables):
            data = [[_plain(cell) for cell in row] for row in table.rows]
            columns = [column or "-" for column in table.columns]
            yield f"{part.id}/table{number or ''}", wandb.Table(columns=columns, data=data, allow_mixed_types=True)
        for number, figure in enumerate(part.figures):
            page = f"<!doctype html><style>{style}</style><h3>{escape(figure.title)}</h3>{figure.svg}"
            yield f"{part.id}/chart{number}", wandb.Html(page, inject=False)
    yield NAME.replace(".", "_"), wandb.Html(render(report, more).decode(), inject=False)


def _plain(cell: TableCell) -> float | str:
    return cell.text if cell.value is None else cell.value


class TrackMode(enum.Enum):
    """Where a report goes: into files, which `wandb sync` can send, or straight to W&B."""

    offline = "offline"
    online = "online"


@dataclass
class TrackOptions:
    """The options of ``python -m pipeline track``."""

    folder: Path  # an evaluation's, e.g. runs/eval/<key>
    mode: TrackMode = TrackMode.offline  # offline sends nothing; online does
    project: str = "drafters"
    runs: Path = Path("runs")  # where W&B's files go and certificates are looked for


def main(arguments: list[str]) -> int:
    """Log the report of a finished evaluation; returns the exit status. Raises DraftersError where there is none."""
    options = read_options(TrackOptions, arguments)
    report = read_report(options.folder / "report.json")
    more = further(options.runs, report.code)
    mode, project = options.mode.value, options.project
    where = log_report(report, more, options.folder, mode=mode, project=project, runs=options.runs)
    print(f"logged to {where}")
    return 0
