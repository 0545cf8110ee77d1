"""The table fits a terminal of 80 columns and says what the report says."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from drafters.package.recommendation.choices import Choice, Speedup, Use
from eval.report.row import ReportRow
from eval.report.schema import CoveredDomain, ForwardCosts, GreedyIdentity, PromptSet, Report
from eval.report.terminal.table import lines, main, short_lines, show

ROW = ReportRow(
    sampler="exact_match", executor="speculative", stop="static", temperature=1.0, drafter="unpruned", kept=151936, accepted=7,
    drafted=15, verified=9, target_forwards=3, tokens=10, acceptance_rate=0.7912, acceptance_rate_low=0.71,
    acceptance_rate_high=0.86, block_efficiency=3.4321, tokens_per_second=1234.56, speedup_vs_autoregressive=1.678,
    speedup_vs_unpruned=1.234, lossless="pathwise", nodes=5,
)  # fmt: skip
PLAIN = ReportRow(
    sampler=None, executor="autoregressive", stop=None, temperature=1.0, kept=None, accepted=0, drafted=0, verified=0,
    target_forwards=10, tokens=10, acceptance_rate=None, acceptance_rate_low=None, acceptance_rate_high=None,
    block_efficiency=1.0, tokens_per_second=87.0, speedup_vs_autoregressive=1.0, speedup_vs_unpruned=None,
)  # fmt: skip
REPORT = Report(
    schema=1, pair="pycode", device="cpu", dtype="fp32", vocabulary=151936, kept=4096, drafter_vocabulary=16384,
    coverage=0.9786, threads=1, definitions={}, costs=ForwardCosts(t=0.0123, d_full=0.003, d_pruned=0.0011, c=0.0894, t_n=(), d=()),
    greedy_identity=GreedyIdentity(outputs=8, identical=7, ties=1, different=0), prompts=PromptSet("pycode", 8, 48, 1),
    rows=(replace(PLAIN, temperature=0.0), replace(ROW, temperature=0.0), PLAIN, ROW),
)  # fmt: skip


def of(*rows: ReportRow, **more: object) -> Report:
    return replace(REPORT, rows=rows, **more)


def printed(width: int, report=REPORT) -> list[str]:
    stream = io.StringIO()
    show(report, Console(file=stream, width=width))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(("width", "kept"), [(80, []), (120, ["151,936"])])
def test_a_row_is_one_line(width, kept):
    (first, second) = [line for line in printed(width) if "exact_match" in line]
    assert all(len(line.rstrip()) <= width for line in (first, second))
    assert first.split() == [
        "0", "exact_match", "unpruned", *kept, "5", "~0.79", "±.08", "3.43", "1,234.6", "1.68x", "pathwise",
    ]  # fmt: skip
    assert second.split()[0] == "1"
    plain = next(line for line in printed(width) if "(AR)" in line)
    assert plain.split() == ["0", "(AR)", "-", "-", "-", "1.00", "87.0", "-", "-"]


EXPECTED = replace(
    ROW, acceptance=0.8123, acceptance_low=0.8023, acceptance_high=0.8223, tokens_per_forward=3.111, text_positions=4000,
    speedup_vs_autoregressive_low=1.5, speedup_vs_autoregressive_high=1.9,
)  # fmt: skip


def test_what_is_expected_stands_in_place_of_what_two_prompts_gave():
    report = of(PLAIN, EXPECTED)
    (line,) = [line for line in printed(80, report) if "exact_match" in line]
    assert line.split()[2:] == ["unpruned", "5", "0.812", "±.010", "3.11", "1,234.6", "1.68x", "±.20", "pathwise"]
    assert "expected, on 4,000 positions of the target's own text" in lines(report)[0]


def test_a_speed_that_the_clock_cannot_tell_from_plain_decodings_is_said_in_words():
    unsure = replace(EXPECTED, speedup_vs_autoregressive_low=0.9)
    said = "T = 1: the clock cannot tell these from plain decoding: exact_match (unpruned)"
    assert said in lines(of(PLAIN, unsure))
    assert said not in lines(of(PLAIN, EXPECTED))


def test_the_verdict_stands_last_and_warnings_are_shown():
    speedup = Speedup(1.0, 1.0, 1.0)
    choice = Choice(use=Use(), speedup=speedup, predicted=1.0, prompts=8, temperature=0.0, reason="plain decoding: why")
    report = replace(REPORT, verdict=(choice,), warnings=("an idle machine",))
    assert [line for line in printed(80, report) if line][-2:] == ["What to use", "T = 0: plain decoding: why"]
    assert "warning: an idle machine" in lines(report)


def test_what_is_not_proven_or_lossy_is_said_with_what_to_do():
    bent = replace(ROW, sampler="rrs", lossless="lossy", lossy="verified against something else")
    report = of(PLAIN, replace(ROW, lossless="not proven"), bent, not_applied={"repetition_penalty": 1.1})
    text = "\n".join(printed(120, report))
    assert "unproven: exact_match: no certificate of exactly this code; `make lossless` makes one" in text
    assert "LOSSY: rrs at T = 1: verified against something else" in text
    assert "repetition_penalty=1.1" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("1 ")] == ["-", "unproven", "LOSSY"]
    assert not any("unproven" in line for line in printed(120))


def test_the_main_table_holds_the_package_and_references_and_says_what_it_leaves_out():
    def at(drafter: str, sampler: str, preset: str | None = None) -> ReportRow:
        return replace(ROW, drafter=drafter, sampler=sampler, preset=preset or sampler)

    rows = [
        PLAIN, at("unpruned", "standard"), at("unpruned", "block"), at("unpruned", "alone"), at("package", "tli"),
        at("package", "block"), at("package", "rrs", "rrs_batch"), at("foreign", "tli"), at("foreign", "union"),
    ]  # fmt: skip
    shown = [(row.drafter, row.preset) for row in main(rows)[1:]]
    assert shown == [
        ("unpruned", "standard"), ("unpruned", "alone"), ("package", "tli"), ("package", "block"), ("foreign", "tli"),
    ]  # fmt: skip
    for said in (lines(of(*rows)), short_lines(of(*rows))):
        assert "3 further rows (other drafters, variants of samplers) are in report.csv" in said


def test_a_narrow_terminal_folds_and_cuts_nothing_off():
    text = "\n".join(printed(50))
    assert "\u2026" not in text
    assert "0.79" in text


def test_the_sentences_below():
    said = lines(REPORT)
    assert said[-1] == "4,096 of 16,384 tokens kept, 97.9 % of the counted text covered"
    least = replace(REPORT, least_covered=CoveredDomain("greek", 0.617))
    assert lines(least)[-1] == said[-1] + "; warning: 61.7 % of the domain greek"
    assert said[1] == (
        "a target forward takes 12.30 ms, a draft 3.00 ms unpruned, 1.10 ms packaged: a packaged draft costs c = 0.09 of a "
        "target forward"
    )
    assert said[2] == "T = 0: 7 of 8 outputs identical to plain greedy decoding, 1 ties, 0 different"
    assert [line for line in printed(80) if line][-1] == said[-1]
    without_greedy = replace(REPORT, greedy_identity=replace(REPORT.greedy_identity, outputs=0))
    assert not any(line.startswith("T = 0") for line in lines(without_greedy))


def test_sentences_are_one_line_each_however_narrow_the_terminal_is():
    report = replace(REPORT, absent=("this package has no prior (rows of rdk): " + "why " * 40,), selection="few")
    for own in (report, replace(report, selection="all")):
        assert report.absent[0].rstrip() in [line.rstrip() for line in printed(80, own)]


def test_an_interval_narrower_than_the_digits_gets_more_of_them():
    narrow = replace(EXPECTED, acceptance_low=0.81229, acceptance_high=0.81235)
    (line,) = [line for line in printed(100, of(PLAIN, narrow)) if "exact_match" in line]
    assert "0.81230 ±.00003" in line
    same = replace(EXPECTED, acceptance_low=0.8123, acceptance_high=0.8123)
    assert any("0.812 ±.000" in line for line in printed(100, of(PLAIN, same)))
