"""Survival of drafts on one text, from both models' logits: `expect` without the models."""

import torch
from torch import Tensor

from drafters.probs import Sampling
from drafters.samplers.draft import Sampler
from eval.expectation import expect


def survival_of(
    sampler: Sampler,
    target: Tensor,
    drafter: Tensor,
    tokens: Tensor,
    goes_on: Tensor,
    sampling: Sampling,
    draft_sampling: Sampling | None,
    longest: int,
    generator: torch.Generator,
) -> Tensor:
    """S(i, l) from logits (n, V) and (n, D): fp64 (n, longest + 1, or the tree's depth + 1)."""
    p = expect.target_law(target, tokens, sampling)
    q = expect.draft_law(drafter, sampler, draft_sampling or sampling)
    return expect._survival(sampler, p, q, tokens, goes_on, longest, generator)
