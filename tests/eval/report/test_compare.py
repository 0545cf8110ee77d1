"""The regression gate: what is worse, what is noise, and which reports cannot be compared."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from eval.report.compare import CompareOptions, compare, lost_for_sure, main, show
from eval.report.schema import to_json
from eval.report.sources import ReportError
from eval.run.metrics import Estimate
from eval.stats.bootstrap import interval
from tests.eval.report.conftest import EXPECTED, changed_row

TLI = 6  # row of the fixture: the packaged drafter with sampler tli at T = 1


@pytest.fixture
def report(report):
    """One of before expectations."""
    return replace(report, rows=tuple(replace(row, **dict.fromkeys(EXPECTED)) for row in report.rows))


def wilson(successes: int, trials: int) -> Estimate:
    """Wilson's score interval at 95 %."""
    z, rate = 1.959963984540054, successes / trials
    middle = rate + z * z / (2 * trials)
    reach = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    scale = 1 + z * z / trials
    return Estimate(rate, (middle - reach) / scale, (middle + reach) / scale)


def test_lower_end_of_a_difference_as_published():
    # Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, method 10: 56/70 - 48/80 and 9/10 - 3/10.
    assert lost_for_sure(wilson(56, 70), wilson(48, 80)) == pytest.approx(0.0524, abs=5e-5)
    assert lost_for_sure(wilson(9, 10), wilson(3, 10)) == pytest.approx(0.1705, abs=5e-5)


def test_equal_prompts_give_few_alarms_and_real_losses_are_seen():
    # 60 prompts of about 40 tested drafts each, rates spread by 0.1 between prompts: a mean's standard error is about 0.016.
    random = np.random.default_rng(0)

    def measured(rate: float) -> Estimate:
        verified = random.integers(20, 60, 60).astype(float)
        accepted = random.binomial(verified.astype(int), np.clip(random.normal(rate, 0.1, 60), 0, 1)).astype(float)
        return Estimate(accepted.sum() / verified.sum(), *interval(np.divide, accepted, verified))

    alarms = sum(lost_for_sure(measured(0.7), measured(0.7)) > 0 for _ in range(60))
    seen = sum(lost_for_sure(measured(0.7), measured(0.6)) > 0 for _ in range(30))
    assert alarms <= 7  # 2.5 % expected: more than 7 of 60 has probability 2e-4
    assert seen >= 26  # a loss of 4.3 standard errors is seen with probability 0.99: fewer than 26 has probability 1e-5


def changed(report, field: str, factor: float, row: int = TLI):
    """The report with one figure of one row scaled, its interval with it."""
    names = (field, f"{field}_low", f"{field}_high")
    return changed_row(report, row, **{name: getattr(report.rows[row], name) * factor for name in names})


def narrow(report):
    """Intervals of one percent, so that a change of a few is beyond them."""
    for number, row in enumerate(report.rows):
        for field in ("acceptance_rate", "block_efficiency", "speedup_vs_autoregressive"):
            if (value := getattr(row, field)) is not None:
                report = changed_row(report, number, **{f"{field}_low": 0.99 * value, f"{field}_high": 1.01 * value})
    return report


def verdicts(found) -> dict[tuple[str, str], str]:
    return {(change.sampler, change.field): change.verdict for change in found.changes if change.temperature == 1}


def test_a_report_is_no_worse_than_itself(report):
    found = compare(report, report)
    assert found.passed
    assert {change.verdict for change in found.changes} == {"same"}
    assert len(found.changes) == 18  # six speculative rows, three figures


@pytest.mark.parametrize("field", ["acceptance_rate", "block_efficiency"])
@pytest.mark.parametrize(("factor", "verdict"), [(0.995, "same"), (0.97, "worse"), (1.03, "better")])
def test_counts_are_held_to_their_intervals(report, field, factor, verdict):
    before = narrow(report)
    found = compare(before, changed(before, field, factor))
    assert verdicts(found).pop(("tli", field)) == verdict
    assert set(verdicts(found).values()) <= {"same", verdict}
    assert found.passed == (verdict != "worse")


@pytest.mark.parametrize(
    ("field", "measured"), [("acceptance", "acceptance_rate"), ("tokens_per_forward", "block_efficiency")]
)
@pytest.mark.parametrize(("factor", "verdict"), [(0.999, "same"), (0.9, "worse"), (1.1, "better")])
def test_expected_figures_are_compared_where_both_reports_have_them(report, field, measured, factor, verdict):
    rows = tuple(replace(row, **EXPECTED) if row.sampler else row for row in report.rows)
    before = replace(report, rows=rows)
    found = compare(before, changed(before, field, factor))
    assert verdicts(found).pop(("tli", field)) == verdict
    assert ("tli", measured) not in verdicts(found)
    assert found.passed == (verdict != "worse")
    assert ("tli", measured) in verdicts(compare(before, report))  # one of them is of before


def test_speed_has_a_tolerance_besides(report):
    before = narrow(report)
    slower = changed(before, "speedup_vs_autoregressive", 0.96)
    assert compare(before, slower).passed
    assert not compare(before, slower, tolerance=0.02).passed
    assert not compare(before, changed(before, "speedup_vs_autoregressive", 0.9)).passed


def test_without_an_interval_nothing_is_claimed(report):
    before = changed_row(narrow(report), TLI, acceptance_rate_low=None)
    found = compare(before, changed(narrow(report), "acceptance_rate", 0.5))
    assert verdicts(found)["tli", "acceptance_rate"] == "no interval"
    assert found.passed


def test_a_row_that_is_gone_fails_and_a_new_one_does_not(report):
    less = replace(report, rows=report.rows[:TLI] + report.rows[TLI + 1 :])
    assert compare(report, less).gone == ["tli (package), T = 1"]
    assert not compare(report, less).passed
    assert compare(less, report).new == ["tli (package), T = 1"]
    assert compare(less, report).passed


def test_another_kept_size_is_the_same_row(report):
    assert compare(report, changed_row(report, TLI, kept=12)).passed


def test_a_lost_proof_and_greedy_differences_fail(report):
    unproved = changed_row(report, TLI, lossless="not proven")
    assert compare(report, unproved).lost == ["tli (package), T = 1: was proved lossless (exact), is not proven"]
    different = replace(report, greedy_identity=replace(report.greedy_identity, different=2))
    assert compare(report, different).lost == ["greedy outputs that differ from plain decoding's: 0, now 2"]
    assert compare(unproved, report).passed
    assert compare(different, report).passed


def test_speed_of_two_machines_is_not_compared(report):
    other = replace(changed(narrow(report), "speedup_vs_autoregressive", 0.5), device="cuda")
    found = compare(narrow(report), other)
    assert found.passed
    assert found.notes == ["device differs: cpu and cuda; speed is not compared"]
    assert {change.field for change in found.changes} == {"acceptance_rate", "block_efficiency"}


def test_different_work_is_refused(report):
    other = replace(report, prompts=replace(report.prompts, suite="humaneval"))
    with pytest.raises(ReportError, match=r"prompts.suite: expected 'pycode' as in the first, got 'humaneval'"):
        compare(report, other)


def test_command_line(report, tmp_path, capsys):
    good, bad, broken = (tmp_path / name for name in ("good.json", "bad.json", "broken.json"))
    good.write_bytes(to_json(narrow(report)))
    bad.write_bytes(to_json(changed(narrow(report), "acceptance_rate", 0.5)))
    broken.write_text("{}")
    assert main(CompareOptions(good, good)) == 0
    assert main(CompareOptions(good, bad)) == 1
    said = capsys.readouterr().out
    assert "-50.0 %" in said
    assert "1 worse" in said
    with pytest.raises(ReportError, match="schema"):
        main(CompareOptions(good, broken))


def test_the_table_fits_80_columns(report):
    stream = io.StringIO()
    show(
        compare(narrow(report), changed(narrow(report), "acceptance_rate", 0.5)), Console(file=stream, width=80), False
    )
    row = next(line for line in stream.getvalue().splitlines() if "tli" in line)
    assert row.split()[:4] == ["1", "tli", "package", "acceptance"]
    assert row.split()[-1] == "worse"
