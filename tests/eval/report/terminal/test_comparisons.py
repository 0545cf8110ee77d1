"""The papers' comparisons: every number from its row, nothing invented, readable at 100 columns."""

import io
from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import pytest
from rich.console import Console

from eval.report.row import ReportRow
from eval.report.terminal.comparisons import STRATEGIES, Comparison, comparisons
from eval.run.records import PACKAGE, SPECULATIVE
from tests.eval.report.terminal.test_table import REPORT

HETEROGENEOUS = ("exact_match", "union", "tli", "slem", "slrs")
SAMPLERS = [*dict.fromkeys(name for names in STRATEGIES.values() for name in names if name), *HETEROGENEOUS]


BARE = ReportRow(
    sampler=None, executor=SPECULATIVE, stop="static", temperature=0.0, kept=9, accepted=1, drafted=2, target_forwards=1, tokens=2,
    acceptance_rate=None, acceptance_rate_low=None, acceptance_rate_high=None, block_efficiency=None, tokens_per_second=None,
    speedup_vs_autoregressive=None, speedup_vs_unpruned=None, verified=2, nodes=15, drafts_at_root=3,
)  # fmt: skip


def row(drafter: str, preset: str, temperature: float, value: float) -> ReportRow:
    raced = preset.startswith("race")
    return replace(
        BARE, drafter=drafter, preset=preset, sampler=preset, temperature=temperature, acceptance_rate=value / 10,
        block_efficiency=value, measured_at_root=value / 9, expected_acceptance=value / 8, optimal_acceptance=value / 7,
        gap_to_optimum=value / 7 - value / 8, race_acceptance=value / 6 if raced else None,
        rank_entropy=value / 5 if raced else None, race_ceiling=value * 2 if raced else None,
    )  # fmt: skip


def rows(temperatures=(0.0, 0.7, 1.0)) -> list[ReportRow]:
    names = [(PACKAGE, name) for name in SAMPLERS] + [("foreign", name) for name in HETEROGENEOUS]
    every = product(temperatures, names)
    return [row(drafter, name, t, 1 + number / 50) for number, (t, (drafter, name)) in enumerate(every)]


def of(found: Iterable[ReportRow]) -> list[Comparison]:
    return comparisons(replace(REPORT, rows=tuple(found)))


def cell(table, name: str, column: str) -> str:
    return next(line for line in table.body if line[0] == name)[table.header.index(column)]


def test_numbers_are_those_of_their_rows():
    found = {(item.drafter, item.preset, item.temperature): item for item in rows()}
    vocabularies, strategies, optimum, race = of(rows())
    union = found["foreign", "union", 0.7]
    expected = f"{union.acceptance_rate:.2f} {union.block_efficiency:.2f}"
    assert cell(vocabularies, "union", "foreign\nT=0.7") == expected
    assert cell(strategies, "batch", "ERSD\nT=1") == f"{found[PACKAGE, 'race_batch', 1.0].block_efficiency:.2f}"
    assert cell(strategies, "tree", "w/o\nT=0") == f"{found[PACKAGE, 'rrs_wor', 0.0].block_efficiency:.2f}"
    assert cell(strategies, "sequence", "w/o\nT=1") == cell(strategies, "tunstall", "GSD\nT=1") == "-"
    assert cell(optimum, "rrs", "opt.\nT=1") == f"{found[PACKAGE, 'rrs', 1.0].optimal_acceptance:.3f}"
    assert not any(name.rpartition("\n")[2] == "T=0" for name in optimum.header)
    line = next(line for line in race.body if line[:2] == ("race_tree, package", "1"))
    assert line[-1] == f"{found[PACKAGE, 'race_tree', 1.0].race_ceiling:.2f}"


def test_tables_whose_rows_are_missing_are_left_out_and_missing_cells_are_dashes():
    assert of([]) == []
    plain = [item for item in rows() if item.preset == "tli" and item.drafter == PACKAGE]
    (only,) = of(plain)
    assert only.title.startswith("Draft laws")
    without = [item for item in rows() if (item.drafter, item.preset) != ("foreign", "slem")]
    assert cell(of(without)[0], "slem", "foreign\nT=1") == "-"
    nothing = [replace(item, optimal_acceptance=None, race_ceiling=None) for item in rows()]
    assert len(of(nothing)) == 2


def test_a_gap_of_rounding_has_no_sign():
    tiny = [replace(item, gap_to_optimum=-1e-12) for item in rows()]
    assert cell(of(tiny)[2], "rrs", "gap\nT=1") == "0.000"


def test_of_several_policies_the_first_is_shown():
    first, second = row(PACKAGE, "tli", 1.0, 2.0), replace(row(PACKAGE, "tli", 1.0, 3.0), stop="other")
    (table,) = of([first, second])
    assert cell(table, "tli", "exp.\nT=1") == "0.250"


@pytest.mark.parametrize("index", range(4))
def test_a_row_is_one_line_of_at_most_100_columns(index):
    table, stream = of(rows())[index], io.StringIO()
    Console(file=stream, width=100).print(table.table())
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if line.strip()]) == len(table.body) + 3  # two of the header and its rule
    assert max(map(len, lines)) <= 100
