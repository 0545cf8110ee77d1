"""The table fits a terminal of 80 columns and says what the report says."""

import io

import pytest
from rich.console import Console

from eval.report.terminal.table import lines, main, show

ROW = {
    "sampler": "exact_match", "executor": "speculative", "stop": "static", "temperature": 1.0, "drafter": "unpruned",
    "kept": 151936, "acceptance_rate": 0.7912, "acceptance_rate_low": 0.71, "acceptance_rate_high": 0.86,
    "block_efficiency": 3.4321, "tokens_per_second": 1234.56, "speedup_vs_autoregressive": 1.678,
    "speedup_vs_unpruned": 1.234, "lossless": "pathwise", "lossy": None,
}  # fmt: skip
PLAIN = ROW | {
    "sampler": None, "executor": "autoregressive", "stop": None, "drafter": None, "kept": None, "acceptance_rate": None,
    "acceptance_rate_low": None, "acceptance_rate_high": None, "block_efficiency": 1.0, "tokens_per_second": 87.0,
    "speedup_vs_autoregressive": 1.0, "speedup_vs_unpruned": None, "lossless": None,
}  # fmt: skip
REPORT = {
    "pair": "pycode", "device": "cpu", "dtype": "fp32", "kept": 4096, "drafter_vocabulary": 16384, "coverage": 0.9786,
    "costs": {"t": 0.0123, "d_full": 0.003, "d_pruned": 0.0011, "c": 0.0894},
    "greedy_identity": {"outputs": 8, "identical": 7, "ties": 1, "different": 0},
    "prompts": {"suite": "pycode", "count": 8, "max_new_tokens": 48},
    "rows": [PLAIN | {"temperature": 0.0}, ROW | {"temperature": 0.0}, PLAIN, ROW],
}  # fmt: skip


def printed(width: int, report=REPORT) -> list[str]:
    stream = io.StringIO()
    show(report, Console(file=stream, width=width))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(("width", "kept"), [(80, []), (120, ["151,936"])])
def test_a_row_is_one_line(width, kept):
    (first, second) = [line for line in printed(width) if "exact_match" in line]
    assert all(len(line.rstrip()) <= width for line in (first, second))
    assert first.split() == [
        "0", "exact_match", "unpruned", *kept, "~0.79", "±.08", "3.43", "1,234.6", "1.68x", "pathwise",
    ]  # fmt: skip
    assert second.split()[0] == "1"
    plain = next(line for line in printed(width) if "(AR)" in line)
    assert plain.split() == ["0", "(AR)", "-", "-", "1.00", "87.0", "-", "-"]


EXPECTED = ROW | {
    "acceptance": 0.8123, "acceptance_low": 0.8023, "acceptance_high": 0.8223, "tokens_per_forward": 3.111, "text_positions": 4000,
    "speedup_vs_autoregressive_low": 1.5, "speedup_vs_autoregressive_high": 1.9,
}  # fmt: skip


def test_what_is_expected_stands_in_place_of_what_two_prompts_gave():
    report = REPORT | {"rows": [PLAIN, EXPECTED]}
    (line,) = [line for line in printed(80, report) if "exact_match" in line]
    assert line.split()[2:] == ["unpruned", "0.812", "±.010", "3.11", "1,234.6", "1.68x", "±.20", "pathwise"]
    assert "expected, on 4,000 positions of the target's own text" in lines(report)[0]


def test_a_speed_that_the_clock_cannot_tell_from_plain_decodings_is_said_in_words():
    unsure = EXPECTED | {"speedup_vs_autoregressive_low": 0.9}
    said = "T = 1: the clock cannot tell these from plain decoding: exact_match (unpruned)"
    assert said in lines(REPORT | {"rows": [PLAIN, unsure]})
    assert said not in lines(REPORT | {"rows": [PLAIN, EXPECTED]})


def test_the_verdict_stands_last_and_warnings_are_shown():
    report = REPORT | {
        "verdict": [{"temperature": 0.0, "reason": "plain decoding: why"}],
        "warnings": ["an idle machine"],
    }
    assert [line for line in printed(80, report) if line][-2:] == ["What to use", "T = 0: plain decoding: why"]
    assert "warning: an idle machine" in lines(report)


def test_what_is_not_proven_or_lossy_is_said_with_what_to_do():
    bent = ROW | {"sampler": "rrs", "lossless": "lossy", "lossy": "verified against something else"}
    report = REPORT | {
        "rows": [PLAIN, ROW | {"lossless": "not proven"}, bent],
        "not_applied": {"repetition_penalty": 1.1},
    }
    text = "\n".join(printed(120, report))
    assert "unproven: exact_match: no certificate of exactly this code; `make lossless` makes one" in text
    assert "LOSSY: rrs at T = 1: verified against something else" in text
    assert "repetition_penalty=1.1" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("1 ")] == ["-", "unproven", "LOSSY"]
    assert not any("unproven" in line for line in printed(120))


def test_the_main_table_holds_the_package_and_references_and_says_what_it_leaves_out():
    def at(drafter: str, sampler: str, preset: str | None = None) -> dict:
        return ROW | {"drafter": drafter, "sampler": sampler, "preset": preset or sampler}

    rows = [
        PLAIN, at("unpruned", "standard"), at("unpruned", "block"), at("unpruned", "alone"), at("package", "tli"),
        at("package", "block"), at("package", "rrs", "rrs_batch"), at("foreign", "tli"), at("foreign", "union"),
    ]  # fmt: skip
    shown = [(row["drafter"], row["preset"]) for row in main(rows)[1:]]
    assert shown == [
        ("unpruned", "standard"), ("unpruned", "alone"), ("package", "tli"), ("package", "block"), ("foreign", "tli"),
    ]  # fmt: skip
    assert "3 further rows (other drafters, variants of samplers) are in report.csv" in lines(REPORT | {"rows": rows})


def test_a_narrow_terminal_folds_and_cuts_nothing_off():
    text = "\n".join(printed(50))
    assert "\u2026" not in text
    assert "0.79" in text


def test_the_sentences_below():
    said = lines(REPORT)
    assert said[-1] == "4,096 of 16,384 tokens kept, 97.9 % of target text covered"
    assert said[1] == "a target forward 12.30 ms, a drafter forward 3.00 ms unpruned, 1.10 ms packaged: c = 0.09"
    assert said[2] == "T = 0: 7 of 8 outputs identical to plain greedy decoding, 1 ties, 0 different"
    assert [line for line in printed(80) if line][-1] == said[-1]
    without_greedy = REPORT | {"greedy_identity": REPORT["greedy_identity"] | {"outputs": 0}}
    assert not any(line.startswith("T = 0") for line in lines(without_greedy))
