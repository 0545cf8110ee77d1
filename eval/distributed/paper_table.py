"""Forwards and acceptance that Timor et al. 2024 (arXiv 2405.14105, table 1) measured on A100 GPUs, and the speed-up they report.

Their SI/DSI column divides simulated times in which threads sleep for a forward. Their SI loses a target forward at every
rejection and is averaged over lookaheads while DSI's lookahead is chosen; against an SI that counts the target's own tokens and
chooses its lookahead too, less is left: the ideal column of `eval.distributed.simulation`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A pair on a data set: t, d in milliseconds, acceptance rate a, reported SI / DSI."""

    target: str
    drafter: str
    data: str
    t: float
    d: float
    a: float
    reported: float


ROWS = (
    Row("Vicuna-13B", "68M", "CNN-DM", 37.7, 2.5, 0.63, 1.47),
    Row("Vicuna-13B", "68M", "Alpaca", 33.3, 2.5, 0.58, 1.41),
    Row("Vicuna-7B", "68M", "CNN-DM", 29.4, 2.5, 0.67, 1.29),
    Row("Vicuna-7B", "68M", "Alpaca", 26.0, 2.5, 0.59, 1.70),
    Row("Starcoder-15B", "168M", "HumanEval", 20.6, 6.8, 0.93, 1.92),
    Row("Starcoder-15B", "168M", "MBPP", 21.0, 6.8, 0.90, 1.66),
    Row("Phi3-14B", "4B", "HumanEval", 52.1, 34.0, 0.95, 1.41),
    Row("Phi3-14B", "4B", "MBPP", 52.2, 34.3, 0.94, 1.37),
    Row("Phi3-14B", "4B", "CNN-DM", 52.4, 34.6, 0.93, 1.39),
    Row("Phi3-14B", "4B", "Alpaca", 49.6, 33.4, 0.87, 1.60),
)
LOOKAHEADS = (1, 5, 10)
MOST_SERVERS = 7
TOKENS = 50
