"""The table fits a terminal of 80 columns and says what the report says."""

import io

import pytest
from rich.console import Console

from eval.report.table import lines, show

ROW = {
    "sampler": "exact_match", "executor": "speculative", "stop": "static", "temperature": 1.0, "drafter": "unpruned",
    "kept": 151936, "acceptance_rate": 0.7912, "acceptance_rate_low": 0.71, "acceptance_rate_high": 0.86,
    "block_efficiency": 3.4321, "tokens_per_second": 1234.56, "speedup_vs_autoregressive": 1.678,
    "speedup_vs_unpruned": 1.234,
}  # fmt: skip
PLAIN = ROW | {
    "sampler": None, "executor": "autoregressive", "stop": None, "drafter": None, "kept": None, "acceptance_rate": None,
    "acceptance_rate_low": None, "acceptance_rate_high": None, "block_efficiency": 1.0, "tokens_per_second": 87.0,
    "speedup_vs_autoregressive": 1.0, "speedup_vs_unpruned": None,
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


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_is_one_line(width):
    (first, second) = [line for line in printed(width) if "exact_match" in line]
    assert all(len(line.rstrip()) <= width for line in (first, second))
    assert first.split() == [
        "0", "exact_match", "unpruned", "151,936", "0.79", "(0.71-0.86)", "3.43", "1,234.6", "1.68x", "1.23x",
    ]  # fmt: skip
    assert second.split()[0] == "1"
    plain = next(line for line in printed(width) if "(AR)" in line)
    assert plain.split() == ["0", "(AR)", "-", "-", "1.00", "87.0", "1.00x", "-"]


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
