"""The proof of every sampler of the catalog, and its certificate; exit status 1 if anything failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from drafters.io.atomic import write_json
from drafters.io.manifest import write_manifest
from drafters.models.devices import choose_device
from drafters.samplers.catalog import CATALOG
from eval.lossless import gate
from eval.lossless.certificate import NAME, certificate, code_hash
from eval.lossless.gate import Verdicts
from eval.lossless.mutants.matrix import MUTANTS
from eval.lossless.mutants.subject import BATCH, COINS, EXACT, GAP, KINDS, PATH, SAMPLED
from eval.run.progress import Lines, ticking

Advance = Callable[[int], None]
DTYPE = "float64"  # of all toy distributions
# Of the kinds of test, as column heads.
HEADS = {EXACT: "law", SAMPLED: "chi2", PATH: "path", COINS: "coins", BATCH: "batch", GAP: "gap"}
Bar = Callable[[str, int], AbstractContextManager[Advance]]


@dataclass
class LosslessOptions:
    """The options of the proof."""

    device: str = "cpu"  # where samples are drawn: auto, cpu, cuda or mps
    workers: int = min(os.cpu_count() or 1, 8)  # processes
    runs: Path = Path("runs")  # the certificate goes to lossless/<key>/ in it


def prove(device: str, workers: int, console: Console, bar: Bar) -> tuple[dict[str, Any], bool]:
    """Run the whole gate and print it: the certificate, and whether everything passed."""
    size = gate.size()
    console.print(
        f"proving {len(CATALOG)} samplers by exact laws, samples and {len(MUTANTS)} planted bugs: "
        f"{size} tasks on {workers} processes, about {'three' if workers > 1 else 'six'} minutes"
    )
    start = time.monotonic()
    with bar("Proving", size) as advance:
        verdicts = gate.run(None, device, workers, advance)
    show(verdicts, console)
    proofs = verdicts.proofs.values()
    cells = sum(proof.cells for proof in proofs)
    worst = max((proof.exact_error or 0.0 for proof in proofs), default=0.0)
    paths = sum(proof.path_cells for proof in proofs)
    console.print(
        f"{cells} exact cells, largest error {worst:.1e}; {paths} pathwise cells; "
        f"{len(verdicts.findings)} findings on {len(MUTANTS)} planted bugs; {time.monotonic() - start:.0f} s"
    )
    console.print("every sampler is lossless" if verdicts.passed else "[red]NOT lossless: see the red lines[/red]")
    matrix = [
        {"source": MUTANTS[f.mutant].source, "bug": MUTANTS[f.mutant].title, "test": f.kind, "found": f.passed}
        for f in verdicts.findings
    ]
    samplers = {name: proof.entry() for name, proof in verdicts.proofs.items()}
    return certificate(samplers, device, DTYPE, matrix=matrix), verdicts.passed


def save(found: Mapping[str, object], folder: Path) -> Path:
    """Write the certificate into `folder`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / NAME, found, indent=1)
    return folder / NAME


def main(options: LosslessOptions) -> int:
    """Prove the samplers and save the certificate; returns the exit status, 0 where all passed."""
    device, console = choose_device(options.device).type, Console()
    found, passed = prove(device, options.workers, console, _bar(console))
    key = code_hash()[:16]
    folder = options.runs / "lossless" / (key if device == "cpu" else f"{key}-{device}")
    path = save(found, folder)
    write_manifest(folder, kind="lossless", key=folder.name, config={"device": device}, inputs={})
    console.print(f"certificate: {path.resolve()}", soft_wrap=True)
    return 0 if passed else 1


def _bar(console: Console) -> Bar:
    @contextmanager
    def bar(description: str, total: int) -> Any:
        if not console.is_terminal:
            with ticking(Lines(description, total, lambda text: console.print(text, highlight=False))) as lines:
                yield lines.advance
            return
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(description, total=total)
            yield lambda done: progress.advance(task, done)

    return bar


def show(verdicts: Verdicts, console: Console) -> None:
    """Print the table of samplers, the matrix of planted bugs, and a red line for every failure."""
    console.print(_samplers(verdicts))
    if verdicts.findings:
        console.print(_matrix(verdicts))
    for name, proof in verdicts.proofs.items():
        for failure in proof.failures:
            console.print(f"[red]{name}: {failure}[/red]")
    for finding in verdicts.findings:
        if not finding.passed:
            mutant = MUTANTS[finding.mutant]
            reason = "rejects right code" if finding.clean_rejected else "does not find it"
            console.print(f"[red]{mutant.source} {mutant.title}: {finding.kind} {reason}[/red]")


def _samplers(verdicts: Verdicts) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Losslessness by sampler", title_justify="left")
    for column, justify in (
        ("sampler", "left"), ("proved", "left"), ("cells", "right"), ("error", "right"), ("triples", "right"),
        ("TV seen", "right"), ("least p", "right"), ("bugs", "right"),
    ):  # fmt: skip
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, proof in verdicts.proofs.items():
        sampled = proof.evidence
        error = f"{proof.exact_error:.1e}" if proof.exact_error is not None else f"{proof.mismatches} differ"
        table.add_row(
            name,
            "FAILED" if proof.failures else proof.status,
            str(proof.cells or proof.path_cells),
            error,
            f"{sampled.n:,}" if sampled else "-",
            f"{sampled.detectable_tv:.3f}" if sampled else "-",
            f"{min(sampled.p_values.values()):.2g}" if sampled else "-",
            f"{proof.mutants_killed}/{proof.mutants}",
        )
    return table


def _matrix(verdicts: Verdicts) -> Table:
    found = {(finding.mutant, finding.kind): finding for finding in verdicts.findings}
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title="Planted bugs: x = found", title_justify="left", padding=(0, 1, 0, 0)
    )
    table.add_column("from", no_wrap=True)
    table.add_column("bug", no_wrap=True)
    for kind in KINDS:
        table.add_column(HEADS[kind], justify="center", no_wrap=True)
    for number, mutant in enumerate(MUTANTS):
        marks = []
        for kind in KINDS:
            finding = found.get((number, kind))
            marks.append("" if finding is None else "x" if finding.passed else "MISSED")
        table.add_row(mutant.source, mutant.title, *marks)
    reasons = sorted({mutant.blind for mutant in MUTANTS if mutant.blind})
    table.caption = (
        "law: exact law of the engine. chi2: samples. path: race decoding, token for token. coins: coins of 0 and 1 - 2^-53. "
        "batch: rows alone and together. gap: acceptance below the optimum. Blank: cannot show there ("
        + "; ".join(reasons)
        + ")."
    )
    table.caption_justify = "left"
    return table
