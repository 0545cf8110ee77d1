"""Laws on the columns that a drafter is trained on: its kept tokens, and one column for all the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Head:
    """What follows the final norm: weight (rows, H), bias (rows,) or None, soft cap or None, and the temperature served."""

    weight: Tensor
    bias: Tensor | None
    cap: float | None
    temperature: float  # > 0

    @classmethod
    def of(cls, model: PreTrainedModel, temperature: float) -> Head:
        """Return the head of a causal LM of one of `pipeline.cut.layers.FAMILIES`, in fp32; temperature 0 is read as 1."""
        own, config = model.get_output_embeddings(), model.config
        bias = getattr(own, "bias", None)
        cap = getattr(config, "final_logit_softcapping", None)
        return cls(
            own.weight.detach().float(), None if bias is None else bias.detach().float(), cap, temperature or 1.0
        )

    def rows(self, ids: Tensor) -> Head:
        """Return the head of the rows ``ids``, int64 (n,), alone: copies."""
        bias = None if self.bias is None else self.bias[ids].contiguous()
        return Head(self.weight[ids].contiguous(), bias, self.cap, self.temperature)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Hidden states (n, H) to logits over the temperature, fp32 (n, rows)."""
        logits = F.linear(hidden.float(), self.weight, self.bias)
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        return logits if self.temperature == 1.0 else logits / self.temperature


def with_rest(kept: Tensor, log_total: Tensor) -> Tensor:
    """Probabilities (n, D + 1) of the kept tokens and of all the others: logits (n, D), log-sum-exp over all V (n,)."""
    p = (kept - log_total.unsqueeze(-1)).exp()
    return torch.cat([p, (1 - p.sum(-1, keepdim=True)).clamp(min=0)], -1)


def rest_logit(sampled: Tensor, others: int) -> Tensor:
    """Estimate the log-sum-exp (n,) of ``others`` logits from a uniform sample of them (n, m)."""
    return sampled.logsumexp(-1) + torch.tensor(others / sampled.shape[-1]).log()


def divergence(log_q: Tensor, p: Tensor, weight: float) -> Tensor:
    """Sum over positions of (1 - weight) KL(p || q) + weight TV(p, q), from log q and p (n, columns).

    Acceptance is 1 - TV (Leviathan et al. 2023, corollary 3.6); KL comes first, as the gradient of TV vanishes where the
    distributions do not overlap.
    """
    loss = log_q.new_zeros(())
    if weight < 1:
        loss = (1 - weight) * (torch.xlogy(p, p) - p * log_q).sum()
    if weight > 0:
        loss = loss + weight * (p - log_q.exp()).abs().sum() / 2
    return loss


@dataclass
class Columns:
    """The law of student and teacher on kept tokens and the rest, for hidden states of either.

    Both read the same rows: a cut has its target's head.
    """

    kept: Head  # D rows
    others: Tensor  # int64 (V - D,) ids outside them
    whole: Head  # V rows
    chunk: int = 256  # positions at once: (chunk, D) stays within a processor's cache

    @classmethod
    def of(cls, head: Head, kept: Tensor, chunk: int = 256) -> Columns:
        """Return the columns of ``kept`` ids, int64 (D,) ascending."""
        outside = torch.ones(len(head.weight), dtype=torch.bool)
        outside[kept.cpu()] = False
        return cls(head.rows(kept), outside.nonzero().flatten().to(kept.device), head, chunk)

    def loss(
        self, student: Tensor, teacher: Tensor, log_total: Tensor, sample: Tensor, weight: float
    ) -> tuple[float, Tensor]:
        """Mean `divergence` and its gradient (n, H) in the student's hidden states.

        In chunks, each with its own backward pass, so that no more than (chunk, D) numbers are alive.

        Args:
            student, teacher: (n, H) what either head reads. log_total: fp32 (n,) log-sum-exp of the teacher's V logits.
            sample: int64 (m,) a uniform sample of ``others``, by which the student's mass outside the kept tokens is estimated.
        """
        total, gradient = 0.0, torch.empty_like(student, dtype=torch.float32)
        some = self.whole.rows(sample) if len(sample) else None
        for begin in range(0, len(student), self.chunk):
            part = slice(begin, begin + self.chunk)
            with torch.no_grad():
                p = with_rest(self.kept(teacher[part]), log_total[part])
            with torch.enable_grad():
                hidden = student[part].detach().requires_grad_(True)
                logits = self.kept(hidden)
                if some is None:  # everything is kept
                    log_q, p = logits.log_softmax(-1), p[:, :-1]
                else:
                    rest = rest_logit(some(hidden), len(self.others))
                    log_q = torch.cat([logits, rest.unsqueeze(-1)], -1).log_softmax(-1)
                loss = divergence(log_q, p, weight) / len(student)
                loss.backward()
            assert hidden.grad is not None
            gradient[part] = hidden.grad
            total += float(loss.detach())
        return total, gradient


@torch.inference_mode()
def agreement(head: Head, student: Tensor, teacher: Tensor, log_total: Tensor, chunk: int = 128) -> tuple[float, int]:
    """Sums over positions of the exact acceptance sum_x min(p, q) over all V, and of equal likeliest tokens.

    Args: as `Columns.loss`.
    """
    accepted, equal = 0.0, 0
    for begin in range(0, len(student), chunk):
        part = slice(begin, begin + chunk)
        theirs, own = head(teacher[part]), head(student[part])
        equal += int((theirs.argmax(-1) == own.argmax(-1)).sum())
        p, q = (theirs - log_total[part].unsqueeze(-1)).exp(), own.softmax(-1)
        accepted += float(torch.minimum(p, q).sum(dtype=torch.float64))
    return accepted, equal
