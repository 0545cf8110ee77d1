"""Chances of a chain's drafts given the target's own text, by the verifier's rule.

For a text x drawn from the target, S(l) is the probability that a round accepts at least l drafts *and* these are x's next
tokens, over the probability of those tokens: what is known of acceptance once the text is known. With p, q the laws at a position:
    rejection    product of min(1, q(x) / p(x)); mean over x ~ p: sum min(p, q)
    block        min over m <= l of the product of q(x) / p(x) over the first m: E_q[P_l] of arXiv 2403.10444 written over x ~ p
    exact match  product of q(x): the draft is drawn apart from the target's sample
    race         product of 1 / sum_y max(p_y, q_y p_x / q_x): both winners on one noise (arXiv 2408.07978), over p(x)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from drafters.samplers.draft import Verifier
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.race import Race
from drafters.samplers.verify.rejection import Rejection
from eval.acceptance.optimal import race_acceptance

LARGEST = 1e12  # of q(x) / p(x): its exact value above one matters to block alone, and only beside others as small
_TINY = torch.finfo(torch.float64).tiny

Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def ratio(p: Tensor, q: Tensor, tokens: Tensor) -> Tensor:
    """q(x) / p(x), capped: laws fp64 (n, V), int64 (n,) -> (n,)."""
    return (_at(q, tokens) / _at(p, tokens).clamp(min=_TINY)).clamp(max=LARGEST)


def same_winner(p: Tensor, q: Tensor, tokens: Tensor) -> Tensor:
    """Probability that the drafter's race has the winner x that the target's had, laws fp64 (n, V), int64 (n,) -> (n,)."""
    q_x = _at(q, tokens)
    scale = (_at(p, tokens) / q_x.clamp(min=_TINY)).unsqueeze(-1)
    both = 1.0 / torch.maximum(p, q * scale).sum(-1).clamp(min=_TINY)
    return torch.where(q_x > 0, both, 0.0)


def _capped(p: Tensor, q: Tensor, tokens: Tensor) -> Tensor:
    return ratio(p, q, tokens).clamp(max=1.0)


def _drawn(p: Tensor, q: Tensor, tokens: Tensor) -> Tensor:
    return _at(q, tokens)


_STEPS: dict[type, Step] = {Rejection: _capped, Block: ratio, ExactMatch: _drawn, Race: same_winner}


def known(verifier: Verifier) -> bool:
    """Whether there is a rule for chains under this verifier."""
    return type(verifier) in _STEPS


def chain_survival(verifier: Verifier, p: Tensor, q: Tensor, tokens: Tensor, goes_on: Tensor, longest: int) -> Tensor:
    """S(i, l) for rounds that begin at each position of a text: fp64 (n, longest + 1).

    Args:
        p, q: laws fp64 (n, V): the target's, and what drafts are drawn from (a miss left out).
        tokens: int64 (n,) the text. goes_on: bool (n,) a draft may follow this token, see `text.readable`.
        longest: drafts in a round.
    """
    step = _STEPS[type(verifier)](p, q, tokens)
    n, joint = len(tokens), isinstance(verifier, Block)
    # Behind a token that ends a draft there is no further one: its own position may be reached, the next not.
    ends = torch.cat([goes_on, goes_on.new_ones(1)])
    survival = torch.ones(n, longest + 1, dtype=torch.float64, device=p.device)
    running = torch.ones(n, dtype=torch.float64, device=p.device)
    for length in range(1, longest + 1):
        here = torch.arange(n, device=p.device) + length - 1
        inside = here < n
        factor = torch.where(inside, step[here.clamp(max=n - 1)], 0.0)
        if length > 1:
            factor = torch.where(ends[(here - 1).clamp(max=n)], factor, 0.0)
        running = running * factor
        before = survival[:, length - 1]
        survival[:, length] = torch.minimum(before, running) if joint else running
    return survival


def chain_acceptance(verifier: Verifier, p: Tensor, q: Tensor) -> Tensor:
    """Probability that a round's first draft is accepted, over all tokens: laws fp64 (n, V) -> (n,)."""
    if isinstance(verifier, Race):
        return race_acceptance(p, q)
    if isinstance(verifier, ExactMatch):
        return (p * q).sum(-1)
    return torch.minimum(p, q).sum(-1)


def _at(law: Tensor, tokens: Tensor) -> Tensor:
    return law.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
