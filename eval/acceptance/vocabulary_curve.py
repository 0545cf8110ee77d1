"""Acceptance against the share of kept tokens: what each way to spend the pruned mass is worth, and which size pays.

Pure functions over distributions of one position each; rows are contexts. Sums are kept by document, the unit of the
intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.stats.bootstrap import interval


def overlap(p: Tensor, q: Tensor) -> Tensor:
    """Acceptance of rejection sampling per context, sum_x min(p, q): (n, V) x (n, V) -> float64 (n,)."""
    return torch.minimum(p, q).sum(-1, dtype=torch.float64)


def oracle(p: Tensor, q: Tensor, kept: Tensor) -> Tensor:
    """The most that any choice of pruned tokens could reach: (n, V), (n, D) and kept ids (D,) -> float64 (n,).

    It gives away e = p(O) exactly where p has it: a unit of e below that gains one and costs at most one.
    """
    inside = p[:, kept]
    given = (1 - inside.sum(-1, keepdim=True)).clamp(min=0)
    return torch.minimum(inside, (1 - given) * q).sum(-1, dtype=torch.float64) + given.squeeze(-1).double()


@dataclass
class Sums:
    """Tokens and summed acceptances by document."""

    rows: dict[int, list[float]] = field(default_factory=dict)

    def add(self, document: int, accepted: Tensor) -> None:
        """Acceptances (n,) of contexts of one document."""
        row = self.rows.setdefault(document, [0.0, 0.0])
        row[0] += len(accepted)
        row[1] += float(accepted.sum())

    def report(self) -> dict[str, float | None]:
        """Mean with its 95 % interval, documents resampled."""
        tokens, accepted = np.array(list(self.rows.values())).T
        low, high = interval(lambda n, total: total / n, tokens, accepted)
        return {"acceptance": float(accepted.sum() / tokens.sum()), "low": low, "high": high}


def gain(better: Sums, base: Sums) -> dict[str, float | None]:
    """Paired difference of two methods on the same documents, with its 95 % interval."""
    tokens, after = np.array(list(better.rows.values())).T
    before = np.array([base.rows[document][1] for document in better.rows])
    low, high = interval(lambda n, new, old: (new - old) / n, tokens, after, before)
    return {"gain": float((after - before).sum() / tokens.sum()), "low": low, "high": high}


def tokens_per_second(acceptance: float, lookahead: int, d: float, verify: float) -> float:
    """Predict chains of G = `lookahead` drafts: (1 - a^(G+1)) / (1 - a) tokens in G d + t(G + 1) seconds
    (Leviathan et al. 2023).
    """
    tokens = lookahead + 1.0 if acceptance >= 1 else (1 - acceptance ** (lookahead + 1)) / (1 - acceptance)
    return tokens / (lookahead * d + verify)


def knee(rows: Sequence[Mapping[str, Any]], tolerance: float = 0.01) -> Mapping[str, Any] | None:
    """The row to use: of those within `tolerance` of the most predicted tokens per second, the one with the smallest head.

    Rows without a prediction (the oracle) are left out; None where there is no other.
    """
    timed = [row for row in rows if row["tokens_per_second"] is not None]
    if not timed:
        return None
    best = max(row["tokens_per_second"] for row in timed)
    near = [row for row in timed if row["tokens_per_second"] >= (1 - tolerance) * best]
    return min(near, key=lambda row: (row["head_share"], -row["tokens_per_second"]))
