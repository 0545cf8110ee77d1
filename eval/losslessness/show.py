"""What the gate prints: one line per sampler, the matrix of planted bugs, and what failed."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from eval.losslessness.gate import Verdicts
from eval.losslessness.mutants.matrix import MUTANTS
from eval.losslessness.mutants.subject import KINDS


def show(verdicts: Verdicts, console: Console) -> None:
    """Print everything."""
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
        ("sampler", "left"), ("proved", "left"), ("cells", "right"), ("largest error", "right"), ("triples", "right"),
        ("detects TV", "right"), ("smallest p", "right"), ("bugs found", "right"),
    ):  # fmt: skip
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, proof in verdicts.proofs.items():
        sampled = proof.evidence
        error = f"{proof.exact_error:.1e}" if proof.exact_error is not None else f"{proof.mismatches} outputs differ"
        table.add_row(
            name,
            "FAILED" if proof.failures else proof.status,
            str(proof.cells or proof.path_cells),
            error,
            f"{sampled.n:,}" if sampled else "-",
            f"{sampled.detectable_tv:.3f}" if sampled else "-",
            f"{min(sampled.p_values.values()):.2g}" if sampled else "-",
            f"{proof.mutants_killed} of {proof.mutants}",
        )
    return table


def _matrix(verdicts: Verdicts) -> Table:
    found = {(finding.mutant, finding.kind): finding for finding in verdicts.findings}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Planted bugs", title_justify="left")
    table.add_column("")
    table.add_column("planted into")
    table.add_column("bug")
    for kind in KINDS:
        table.add_column(kind, justify="center")
    for number, mutant in enumerate(MUTANTS):
        marks = []
        for kind in KINDS:
            finding = found.get((number, kind))
            marks.append("" if finding is None else "found" if finding.passed else "MISSED")
        verifier = type(mutant.subject().sampler.verifier).__name__
        table.add_row(mutant.source, verifier, mutant.title + (f" ({mutant.blind})" if mutant.blind else ""), *marks)
    return table
