"""One compact table per comparison of a paper, from the report's rows. A table whose rows were not measured is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from drafters.samplers.catalog import Group, members
from eval.report.row import ReportRow
from eval.report.schema import Report
from eval.run.records import PACKAGE, SPECULATIVE

NONE = "-"
# Strategy -> presets of GSD with and without replacement, and of ERSD; every draft has 15 nodes (samplers.catalog.STRATEGIES).
STRATEGIES = {
    "sequence": ("rrs_sequence", None, "race_sequence"),
    "batch": ("rrs_batch", "rrs_wor_batch", "race_batch"),
    "tree": ("rrs", "rrs_wor", "race_fixed"),
    "tunstall": (None, None, "race_tree"),
}
OPTIMUM = (
    ("measured_at_root", "meas."), ("expected_acceptance", "exp."), ("optimal_acceptance", "opt."), ("gap_to_optimum", "gap"),
)  # fmt: skip
Key = tuple[str | None, str | None, float]  # drafter, preset, temperature


@dataclass(frozen=True)
class Comparison:
    """A table with the one sentence that says what to look at."""

    title: str
    sentence: str
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]

    def table(self) -> Table:
        """For the terminal, without title and sentence."""
        made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for number, name in enumerate(self.header):
            made.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
        for cells in self.body:
            made.add_row(*cells)
        return made


def comparisons(report: Report) -> list[Comparison]:
    """Those whose rows are in the report."""
    rows = _first(report.rows)
    temperatures = sorted({key[2] for key in rows})
    made = (
        _vocabularies(rows, temperatures),
        _strategies(rows, temperatures),
        _optimum(rows, temperatures),
        _race(rows),
    )
    return [table for table in made if table is not None]


def _vocabularies(rows: Mapping[Key, ReportRow], temperatures: Sequence[float]) -> Comparison | None:
    """Union, TLI, SLRS, SLEM and RDK on the pruned and on foreign drafters."""
    others = sorted({key[0] for key in rows if key[0] and key[1] in members(Group.MISSING) and key[0] != PACKAGE})
    drafters = [PACKAGE, *map(str, others)]
    names = members(Group.HETEROGENEOUS)
    used = [name for name in names if any((drafter, name, t) in rows for drafter in drafters for t in temperatures)]
    if not others or len(used) < 2:
        return None
    columns = [(drafter, t) for drafter in drafters for t in temperatures]
    body = [(name, *(_rate_and_tokens(rows.get((drafter, name, t))) for drafter, t in columns)) for name in used]
    return Comparison(
        "Two vocabularies (Timor et al. 2025): acceptance rate, tokens per target forward",
        "Down a column: what the same drafter is worth by how its tokens become the target's.",
        ("sampler", *(f"{drafter}\nT={t:g}" for drafter, t in columns)),
        tuple(body),
    )


def _strategies(rows: Mapping[Key, ReportRow], temperatures: Sequence[float]) -> Comparison | None:
    """Recursive rejection (GSD) against races (ERSD) by drafting strategy."""
    measured = [t for t in temperatures if (PACKAGE, "race_batch", t) in rows or (PACKAGE, "rrs_batch", t) in rows]
    if not measured:
        return None
    body = []
    for strategy, presets in STRATEGIES.items():
        cells = [rows.get((PACKAGE, preset, t)) if preset else None for t in measured for preset in presets]
        body.append((strategy, *(_number(cell, "block_efficiency", 2) for cell in cells)))
    kinds = ("GSD", "w/o", "ERSD")
    return Comparison(
        "Drafting strategies at 15 nodes (Kobus and Gunduz 2025): tokens per target forward, packaged drafter",
        "Within a temperature: recursive rejection with (GSD) and without replacement (w/o) against races (ERSD).",
        ("strategy", *(f"{kind}\nT={t:g}" for t in measured for kind in kinds)),
        tuple(body),
    )


def _optimum(rows: Mapping[Key, ReportRow], temperatures: Sequence[float]) -> Comparison | None:
    """Every verifier beside the optimum of its draft distribution, at one node."""
    sampled = [t for t in temperatures if t > 0]  # at T = 0 every verifier is optimal
    found = {key: row for key, row in rows.items() if key[0] == PACKAGE and row.optimal_acceptance is not None}
    names = list(dict.fromkeys(str(key[1]) for key in found if key[2] in sampled))
    if not names:
        return None
    body = []
    for name in names:
        cells = [found.get((PACKAGE, name, t)) for t in sampled]
        k = ", ".join(dict.fromkeys(str(cell.drafts_at_root) for cell in cells if cell))
        body.append((name, k, *(_number(cell, field, 3) for cell in cells for field, _ in OPTIMUM)))
    return Comparison(
        "Draft laws and verifiers against the optimum (Hu et al. 2025): acceptance of one of k drafts at one node",
        "gap = opt. - exp., on common laws: what another verifier could still win with the same drafts. meas.: at the roots of "
        "the sampler's own rounds. exp. of race_tree and rrs_wor is estimated from 32 draws per law.",
        ("sampler", "k", *(f"{name}\nT={t:g}" for t in sampled for _, name in OPTIMUM)),
        tuple(body),
    )


def _race(rows: Mapping[Key, ReportRow]) -> Comparison | None:
    """What races reach, and what the rank distribution's entropy allows."""
    found = [(key, row) for key, row in rows.items() if row.race_ceiling is not None and key[2] > 0]
    if not found:
        return None
    body = tuple(
        (
            f"{key[1]}, {key[0]}", f"{key[2]:g}", str(row.nodes), fixed(row.race_acceptance, 3),
            fixed(row.rank_entropy, 2), fixed(row.block_efficiency, 2), fixed(row.race_ceiling, 2),
        )
        for key, row in found
    )  # fmt: skip
    return Comparison(
        "Races (Kobus and Gunduz 2025) and their ceiling (log V + log(nodes + 1)) / H[R]",
        "Tokens per target forward stay below the ceiling; a law of ranks R with less entropy lifts it.",
        ("sampler, drafter", "T", "nodes", "one draft\naccepted", "H[R]\nbits", "tokens /\nforward", "ceiling"),
        body,
    )


def _first(rows: Iterable[ReportRow]) -> dict[Key, ReportRow]:
    """Rows by drafter, preset and temperature: of several stop policies and executors the first."""
    found: dict[Key, ReportRow] = {}
    for row in rows:
        if row.executor == SPECULATIVE:
            found.setdefault((row.drafter, row.name, row.temperature), row)
    return found


def _rate_and_tokens(row: ReportRow | None) -> str:
    if row is None or row.acceptance_rate is None:
        return NONE
    return f"{row.acceptance_rate:.2f} {fixed(row.block_efficiency, 2)}"


def _number(row: ReportRow | None, field: str, digits: int) -> str:
    return fixed(None if row is None else getattr(row, field), digits)


def fixed(value: float | None, digits: int, unit: str = "") -> str:
    """A number with so many digits behind its point; rounding leaves no minus sign before 0."""
    if value is None:
        return NONE
    return f"{value if abs(value) >= 0.5 * 10**-digits else 0.0:,.{digits}f}{unit}"
