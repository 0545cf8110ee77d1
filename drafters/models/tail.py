"""The low-rank tail: what pruning took from a head, given back at a small share of its bytes.

The kept rows of a head stay exact; the logits of others, all of them or the likeliest, are approximated by
``up (down h) + bias``, and one softmax runs over both, so the drafter can say those again (kin: SVD-softmax, Shim et al. 2017;
adaptive softmax, Grave et al. 2017). `factorise` needs no training: it is the truncated SVD of the pruned rows in the
coordinates of the hidden states that really occur, weighted by what the target really says.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tail:
    """A low-rank stand-in for the head rows that were pruned: ``logits = up @ (down @ hidden) + bias``."""

    ids: Tensor  # int64 (O,) drafter ids, ascending, none of them kept
    down: Tensor  # float (R, H)
    up: Tensor  # float (O, R)
    bias: Tensor | None  # float (O,)

    @property
    def rank(self) -> int:
        """R."""
        return self.down.shape[0]

    @property
    def numbers(self) -> int:
        """Weights that one forward reads."""
        return self.down.numel() + self.up.numel() + (0 if self.bias is None else self.bias.numel())


class Moments:
    """Sums over contexts: of hidden states, of their products, and of the target's law. No context is stored.

    A context counts as much as the target's mass outside the kept tokens: where there is none, the tail's logits hardly
    matter.
    """

    def __init__(self, hidden: int, vocabulary: int):
        self.positions = 0
        self.weight = 0.0
        self.total = torch.zeros(hidden, dtype=torch.float64)
        self.product = torch.zeros(hidden, hidden, dtype=torch.float64)
        self.mass = torch.zeros(vocabulary, dtype=torch.float64)

    def add(self, hidden: Tensor, p: Tensor, weight: Tensor | None = None) -> None:
        """Contexts with what the drafter's head read (n, H), the target's laws (n, V), and their weights (n,), else 1."""
        states = hidden.double().cpu()
        weights = torch.ones(len(states), dtype=torch.float64) if weight is None else weight.double().cpu()
        self.positions += len(states)
        self.weight += float(weights.sum())
        self.total += weights @ states
        self.product += states.T @ (states * weights.unsqueeze(1))
        self.mass += p.sum(0, dtype=torch.float64).cpu()

    @property
    def mean(self) -> Tensor:
        """fp64 (H,). Raises ValueError without contexts."""
        self._expect_contexts()
        return self.total / self.weight

    def root(self, ridge: float = 1e-4) -> Tensor:
        """L (H, H) with L L^T the covariance of hidden states. The ridge, a share of the mean variance, keeps it invertible."""
        covariance = self.product / self.weight - self.mean.outer(self.mean)
        floor = ridge * covariance.diagonal().mean().clamp(min=1e-12)
        return torch.linalg.cholesky(covariance + floor * torch.eye(len(covariance), dtype=torch.float64))

    def _expect_contexts(self) -> None:
        if not self.weight > 0:
            raise ValueError("moments of no context: add hidden states and laws first")


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a head slice, weighted as `factorise` weights it; fp64 (min(O, H),), descending."""

    values: Tensor

    @property
    def stable_rank(self) -> float:
        """||A||_F^2 / ||A||_2^2: how many directions carry the slice (Rudelson & Vershynin 2007)."""
        squares = self.values.square()
        return float(squares.sum() / squares[0]) if len(squares) and squares[0] > 0 else 0.0


def factorise(
    weight: Tensor, bias: Tensor | None, ids: Tensor, moments: Moments, rank: int, smoothing: float = 0.1
) -> tuple[Tail, Spectrum]:
    """The rank-R tail with the least expected squared error of its logits, without training.

    An error of logit j costs KL of about q_j err_j^2 / 2 (second order of log-sum-exp), so the rows of
    ``diag(sqrt(m)) W L`` are what is truncated: m the target's mean law, L L^T the covariance of hidden states. The mean
    hidden state goes into the bias, where it costs no rank.

    Args:
        weight: (O, H) head rows of the pruned `ids`, int64 (O,); bias: (O,) or None. rank: R, cut to what there is.
        smoothing: share of m that is uniform: a token unseen in the text still counts.

    Raises ValueError for moments without contexts or of another size.
    """
    rows, hidden = weight.shape
    if moments.total.shape != (hidden,) or len(ids) != rows:
        raise ValueError(
            f"factorise: expected moments of H = {hidden} and {rows} ids, got {len(moments.total)} and {len(ids)}"
        )
    mean, root = moments.mean, moments.root()
    mass = moments.mass[ids] / moments.mass[ids].sum().clamp(min=1e-300)
    importance = (1 - smoothing) * mass + smoothing / max(1, rows)
    full = weight.double() @ root  # (O, H) rows in coordinates where hidden states are white
    gram = full.T @ (importance.unsqueeze(1) * full)  # (H, H): its eigenvectors are the right singular vectors
    squares, vectors = torch.linalg.eigh(gram)
    rank = min(rank, rows, hidden)
    basis = vectors.flip(1)[:, :rank]  # (H, R)
    up = full @ basis
    down = torch.linalg.solve_triangular(root.T, basis, upper=True).T  # basis^T L^-1
    offset = weight.double() @ mean - up @ (down @ mean)
    offset = offset if bias is None else offset + bias.double()
    spectrum = Spectrum(squares.flip(0).clamp(min=0).sqrt()[: min(rows, hidden)])
    return Tail(ids, down.float().contiguous(), up.float().contiguous(), offset.float()), spectrum
