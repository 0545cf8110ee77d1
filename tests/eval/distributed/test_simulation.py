"""Virtual time against the formulas, the theorems and the ten rows of the paper."""

import itertools
from xml.etree import ElementTree

import numpy as np
import pytest

from drafters.distributed.plan import Plan, servers_needed
from eval.command_line import OptionError
from eval.distributed import formulas
from eval.distributed.paper_table import ROWS, TOKENS
from eval.distributed.simulation import gain
from eval.distributed.virtual_time import Delays, coins, mean_seconds, run_dsi, run_si
from eval.report.dsi import BANDS, BOTTOM, LEFT, RIGHT, TOP, DsiOptions, draw_heatmap, main

# Independent of this code: an event simulation in numpy, both at their best k of 1, 5, 10 (SI's k, DSI's k, SI / DSI).
IDEAL = (
    (5, 5, 1.15), (5, 5, 1.15), (5, 5, 1.17), (5, 5, 1.18), (5, 1, 1.36),
    (5, 1, 1.40), (5, 1, 1.19), (5, 1, 1.21), (5, 1, 1.23), (1, 1, 1.24),
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "ideal"), list(zip(ROWS, IDEAL, strict=True)), ids=lambda item: getattr(item, "data", "")
)
def test_the_ten_rows(row, ideal):
    si_k, dsi_k, expected = ideal
    delays, plan = Delays(row.t, row.d), Plan(dsi_k, servers_needed(row.t, row.d, dsi_k))
    si, _ = mean_seconds(row.a, delays, si_k, TOKENS, 60)
    dsi, _ = mean_seconds(row.a, delays, plan, TOKENS, 60)
    assert si / dsi == pytest.approx(expected, abs=0.05)
    assert 1.1 <= row.reported <= 2.0


@pytest.mark.parametrize(("a", "c", "k"), [(0.5, 0.1, 3), (0.8, 0.1, 5), (0.9, 0.3, 1), (0.63, 0.066, 5)])
def test_long_runs_follow_the_formulas(a, c, k):
    delays, plan = Delays(1.0, c), Plan(k, servers_needed(1.0, c, k))
    seconds = {"si": [], "blocks": [], "dsi": []}
    for seed in range(3):
        right = coins(a, 2000, seed)
        seconds["si"].append(run_si(right, delays, k, 2000).seconds)
        blocks = run_dsi(right, delays, Plan(k, plan.servers, resubmit=False), 2000)
        seconds["blocks"].append(blocks.seconds)
        run = run_dsi(right, delays, plan, 2000)
        seconds["dsi"].append(run.seconds)
        assert run.busy <= plan.servers == blocks.busy
    assert np.mean(seconds["si"]) / 2000 == pytest.approx(float(formulas.si(a, k, 1, c)), rel=0.04)
    analytic = float(formulas.dsi(a, k, 1, c))
    assert np.mean(seconds["blocks"]) / 2000 == pytest.approx(analytic, rel=0.04)
    assert 0.88 <= np.mean(seconds["dsi"]) / 2000 / analytic <= 1.03


GRID = list(itertools.product((0.02, 0.1, 0.3, 0.6, 0.9), (0.0, 0.5, 0.8, 0.95, 1.0), (1, 3, 10)))


def grid(resubmit, more=0):
    """Per cell: seconds of every DSI run, and of every SI run with the same drafts."""
    for c, a, k in GRID:
        delays, plan = Delays(1.0, c), Plan(k, servers_needed(1.0, c, k) + more, resubmit)
        rights = [coins(a, 50, seed) for seed in range(4)]
        dsi = np.array([run_dsi(right, delays, plan, 50).seconds for right in rights])
        yield dsi, np.array([run_si(right, delays, k, 50).seconds for right in rights])


def test_never_slower_than_plain_decoding_nor_on_average_than_si():
    for dsi, si in grid(resubmit=True, more=1):  # rule R's own verifications want a server beside those of the bound
        assert dsi.max() <= 50 + 1e-9  # theorem 1, run by run
        gained = si - dsi
        assert gained.mean() >= -3 * gained.std(ddof=1) / len(gained) ** 0.5 - 1e-9  # theorem 2
    for dsi, si in grid(resubmit=True):
        assert dsi.max() <= 50 + 1e-9
        assert dsi.mean() <= 1.02 * si.mean()


def test_without_rule_r_it_can_be_much_slower():
    worst = min(50 / dsi.max() for dsi, _ in grid(resubmit=False))
    assert worst < 0.5


def test_not_preempting_costs_nothing():
    for row in ROWS[::3]:
        plan = Plan(5, servers_needed(row.t, row.d, 5))
        runs = [
            run_dsi(coins(row.a, 50, s), Delays(row.t, row.d, p), plan, 50).seconds
            for p in (True, False)
            for s in range(20)
        ]
        assert sum(runs[20:]) == pytest.approx(sum(runs[:20]), rel=0.02)


def test_too_few_servers_queue_and_stay_ahead_of_plain_decoding():
    right, delays = coins(0.9, 100, 0), Delays(1.0, 0.05)
    few, enough = (run_dsi(right, delays, Plan(2, servers), 100) for servers in (2, 10))
    assert few.busy == 2
    assert enough.seconds < few.seconds <= 100


def test_heatmap(tmp_path):
    c, a = np.linspace(0.01, 1, 100), np.linspace(0, 1, 101)
    assert 1.55 <= gain(c, a, 200).max() <= 1.60
    best, *where = draw_heatmap(tmp_path / "map.svg")
    assert best == gain(c, a, 200).max()
    assert where == pytest.approx([0.03, 0.98])
    drawn = ElementTree.parse(tmp_path / "map.svg").getroot()
    cells = [cell.attrib for cell in drawn if cell.tag.endswith("rect")]
    assert max(float(cell["fill-opacity"]) for cell in cells) == 1.0
    area = sum(float(cell["width"]) * float(cell["height"]) for cell in cells[:-BANDS])
    assert area == pytest.approx((RIGHT - LEFT) * (BOTTOM - TOP), rel=0.01)  # the cells fill the map, once


def test_limits_of_the_formulas():
    assert formulas.dsi(1.0, 1, 1.0, 0.3) == pytest.approx(0.3)
    assert formulas.dsi(0.0, 4, 1.0, 0.3) == formulas.si(0.0, 0, 1.0, 0.3) == 1.0
    assert formulas.si(1.0, 4, 1.0, 0.3) == pytest.approx((4 * 0.3 + 1) / 5)


def test_command(tmp_path, capsys):
    assert main(DsiOptions(repeats=2, out=tmp_path)) == 0
    printed = capsys.readouterr().out
    assert printed.count("Vicuna") == 4
    assert max(map(len, printed.splitlines()[:14])) <= 110
    assert (tmp_path / "heatmap.svg").exists()
    with pytest.raises(OptionError, match="at least 2"):
        main(DsiOptions(repeats=1))
