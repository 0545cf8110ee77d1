"""What the gate prints: one line per sampler, the matrix of planted bugs, and what failed."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from eval.lossless.gate import Verdicts
from eval.lossless.mutants.matrix import MUTANTS
from eval.lossless.mutants.subject import BATCH, COINS, EXACT, GAP, KINDS, PATH, SAMPLED


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


# Of the kinds of test, as column heads.
HEADS = {EXACT: "law", SAMPLED: "chi2", PATH: "path", COINS: "coins", BATCH: "batch", GAP: "gap"}


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
