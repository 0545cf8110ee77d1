"""The paper's rows simulated, and what the formulas say DSI gains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from drafters.distributed.plan import Plan, servers_needed
from eval.distributed import formulas
from eval.distributed.paper_table import LOOKAHEADS, MOST_SERVERS, TOKENS, Row
from eval.distributed.virtual_time import Delays, mean_seconds


@dataclass(frozen=True)
class PaperComparison:
    """A row simulated: seconds per request of plain decoding, SI and DSI, each at its best lookahead."""

    row: Row
    plain: float
    si: float
    dsi: float
    error: float  # standard error of si / dsi
    si_lookahead: int
    dsi_lookahead: int
    servers: int
    analytic: float  # si / dsi by the formulas
    si_mean: float  # SI averaged over LOOKAHEADS, which is nearer to what the paper compares with

    @property
    def ratio(self) -> float:
        """Seconds of SI over seconds of DSI: above 1 where DSI is faster."""
        return self.si / self.dsi


def compare(row: Row, repeats: int) -> PaperComparison:
    """Simulate a row with `repeats` requests of TOKENS tokens, the same drafts for SI and DSI. Milliseconds as seconds."""
    delays = Delays(row.t, row.d)
    si = {k: mean_seconds(row.a, delays, k, TOKENS, repeats) for k in LOOKAHEADS}
    plans = {k: Plan(k, servers_needed(row.t, row.d, k)) for k in LOOKAHEADS}
    dsi = {
        k: mean_seconds(row.a, delays, plan, TOKENS, repeats)
        for k, plan in plans.items()
        if plan.servers <= MOST_SERVERS
    }
    k, j = min(si, key=lambda length: si[length][0]), min(dsi, key=lambda length: dsi[length][0])
    (si_mean, si_error), (dsi_mean, dsi_error) = si[k], dsi[j]
    # Errors as if independent: the drafts are shared, so that the true one is smaller.
    error = si_mean / dsi_mean * float(np.hypot(si_error / si_mean, dsi_error / dsi_mean))
    analytic = float(formulas.si(row.a, k, row.t, row.d) / formulas.dsi(row.a, j, row.t, row.d))
    average = float(np.mean([mean for mean, _ in si.values()]))
    return PaperComparison(
        row, TOKENS * row.t, si_mean, dsi_mean, error, k, j, plans[j].servers, analytic, average / dsi_mean
    )


def print_rows(found: Sequence[PaperComparison], say: Callable[[str], None]) -> None:
    """The table, at most 100 columns wide."""
    say(f"{'':33}{'ms':>11}{'d/t':>7}{'a':>6}  {'SI / DSI':^31}{'DSI':>10}{'plain':>9}")
    say(
        f"{'target, drafter, data':33}{'t':>6}{'d':>5}{'%':>7}{'%':>6}  {'paper':>5}{'ideal':>7}{'':7}{'formula':>7}"
        f"{'k':>5}{'k':>6}{'SP':>4}{'/ DSI':>9}"
    )
    for item in found:
        row = item.row
        name = f"{row.target}/{row.drafter} {row.data}"
        say(
            f"{name:33}{row.t:6.1f}{row.d:5.1f}{100 * row.d / row.t:7.1f}{100 * row.a:6.0f}  {row.reported:5.2f}{item.ratio:7.2f}"
            f" ±{item.error:4.2f} {item.analytic:7.2f}{item.si_lookahead:5}{item.dsi_lookahead:6}{item.servers:4}"
            f"{item.plain / item.dsi:9.2f}"
        )


def gain(c: np.ndarray, a: np.ndarray, longest: int) -> np.ndarray:
    """min(plain, SI at its best k <= longest) / DSI at k = 1, by the formulas: (n_c, n_a)."""
    costs, rates = c[:, None], a[None, :]
    best = np.minimum(formulas.best_si(rates, 1.0, costs, longest), 1.0)
    return best / formulas.dsi(rates, 1, 1.0, costs)
