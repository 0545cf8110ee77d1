"""The distribution that tokens are drawn from, made of logits, and the residual of a rejection. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NEGLIGIBLE = 1e-12  # a residual of less total mass is reached with probability about zero: rounding, not law


@dataclass(frozen=True)
class Sampling:
    """How a distribution is made from logits, in transformers' order: temperature, then top-k, then top-p.

    temperature 0 is greedy decoding; top_k 0 and top_p 1 switch the filters off. Raises ValueError on values outside
    the ranges.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0.0:
            raise ValueError(f"temperature must be >= 0 (0 = greedy), got {self.temperature}.")
        if self.top_k < 0:
            raise ValueError(f"top_k must be >= 0 (0 = off), got {self.top_k}.")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must lie in (0, 1] (1 = off), got {self.top_p}.")

    @property
    def greedy(self) -> bool:
        """Whether decoding is greedy: the temperature is 0."""
        return self.temperature == 0.0


def warp(logits: Tensor, sampling: Sampling) -> Tensor:
    """The distribution that `sampling` makes of `logits`: (..., V) -> (..., V), fp32 or fp64, rows sum to one.

    Greedy gives a one-hot row at the lowest id among the largest logits. Tokens with logit -inf get exactly zero.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if sampling.greedy:
        return torch.zeros_like(logits).scatter_(-1, _likeliest(logits).unsqueeze(-1), 1.0)
    scores = logits / sampling.temperature if sampling.temperature != 1.0 else logits
    if 0 < sampling.top_k < scores.shape[-1]:
        smallest_kept = scores.topk(sampling.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < smallest_kept, -torch.inf)
    if sampling.top_p < 1.0:
        scores = _keep_nucleus(scores, sampling.top_p)
    return scores.softmax(-1)


def _likeliest(logits: Tensor) -> Tensor:
    """(..., V) -> int64 (...): the lowest id among the largest."""
    if logits.device.type == "cpu":  # numpy's is vectorised: a tenth of the time
        return torch.from_numpy(np.asarray(logits.detach().numpy().argmax(-1), np.int64))
    return logits.argmax(-1)


def _keep_nucleus(scores: Tensor, top_p: float) -> Tensor:
    """Mask all but the smallest set of most likely tokens with mass >= top_p (Holtzman et al. 2020), at least one token."""
    ordered, order = scores.sort(dim=-1)  # ascending: transformers' tie order
    below = ordered.softmax(-1).cumsum(-1) <= 1.0 - top_p
    below[..., -1] = False
    return scores.masked_fill(below.scatter(-1, order, below), -torch.inf)


def picked(laws: Tensor, tokens: Tensor) -> Tensor:
    """Probabilities of tokens under distributions, 0 for negative ones: (..., V), int64 (..., n) -> fp64 (..., n)."""
    if laws.device.type == "cpu" and laws.ndim == 2:  # a few numbers: five tensor operations would be all overhead
        ids = tokens.numpy()
        return torch.from_numpy(laws.numpy()[np.arange(len(ids))[:, None], ids] * (ids >= 0.0))
    return laws.gather(-1, tokens.clamp(min=0)).double() * (tokens >= 0)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """max(p - q, 0), unnormalised, in fp64: (..., V) x (..., V) -> (..., V). A row of all but no mass falls back to p.

    The distribution of the token after a rejection (Leviathan et al. 2023, equation 4); q = 0 gives p, the distribution
    of a bonus token.
    """
    p = p.double()
    excess = torch.sub(p, q).clamp_(min=0.0)
    empty = excess.sum(-1, keepdim=True) <= NEGLIGIBLE
    return torch.where(empty, p, excess)
