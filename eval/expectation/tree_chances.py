"""Chances of a tree's drafts given the target's own text, by the verifier's rule; the counterpart of `chains`.

Rules that decide level by level have, per node, the chance that its s-th child is accepted and is the text's token x, over p(x):
    RRS, with replacement     R_s min(q, r_s)(x): r_s the owed law after s rejections, R_s their probability (arXiv 2305.09781)
    RRS, without              the same, earlier draws sampled given that all were rejected (arXiv 2402.14160)
    K-SEQ                     (1 - beta)^s min(q, p / rho)(x) (arXiv 2310.15141)
    greedy                    min(q~, p)(x) for the drawn child, 1 for a certain child that is x (arXiv 2502.18779)
    race                      x is the drafter's s-th arrival, given that it won the target's race (sampled, arXiv 2504.15475)
Traversal carries a mass down the path (arXiv 2505.12398): a child drawn from d is visited with the probability that all before it
failed, enters with mass min(1, a b(x) / d(x)), and succeeds with that; `_Traversed` follows exactly the laws of its verifier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from drafters.samplers.draft import Sampler, Tree
from drafters.samplers.tree.siblings import OneDrawnThenTop, WithoutReplacement, WithReplacement
from drafters.samplers.verify.greedy import Greedy
from drafters.samplers.verify.kseq import KSeq, solve_rho
from drafters.samplers.verify.race import Race
from drafters.samplers.verify.rrs import RRS
from drafters.samplers.verify.traversal import Traversal
from eval.acceptance.optimal import top_tokens

RACES = 4  # noises per position of a race tree; every one is unbiased, more only narrow it
AT_ONCE = 1 << 22  # probabilities of a distribution per position that a rule takes at once
_TINY = torch.finfo(torch.float64).tiny

# (p, q, tokens, children, generator) -> (n, children)
Children = Callable[[Tensor, Tensor, Tensor, int, torch.Generator], Tensor]


def independent(p: Tensor, q: Tensor, tokens: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Recursive rejection of independent children: distributions fp64 (n, V), int64 (n,) -> (n, count)."""
    owed, still, found = p, p.new_ones(len(p)), []
    for _ in range(count):
        found.append(still * torch.minimum(_at(q, tokens), _at(owed, tokens)))
        left = (owed - q).clamp_(min=0.0)
        rejected = left.sum(-1)
        still = still * rejected
        owed = left / rejected.clamp(min=_TINY).unsqueeze(-1)
    return torch.stack(found, 1) / _at(p, tokens).clamp(min=_TINY).unsqueeze(-1)


def exclusive(p: Tensor, q: Tensor, tokens: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Recursive rejection of children drawn without replacement; unbiased: one sequence of draws per position."""
    owed, still, found = p, p.new_ones(len(p)), []
    left_of_q = q.clone()
    for _ in range(count):
        law = left_of_q / left_of_q.sum(-1, keepdim=True).clamp(min=_TINY)
        found.append(still * torch.minimum(_at(law, tokens), _at(owed, tokens)))
        excess = (law - owed).clamp_(min=0.0)  # the distribution of a child that is rejected
        rejected = excess.sum(-1)
        still = still * rejected
        drawn = _draw(excess, generator)
        left = (owed - law).clamp_(min=0.0)
        owed = left / left.sum(-1, keepdim=True).clamp(min=_TINY)
        left_of_q.scatter_(1, drawn.unsqueeze(-1), 0.0)
    return torch.stack(found, 1) / _at(p, tokens).clamp(min=_TINY).unsqueeze(-1)


def tested_together(p: Tensor, q: Tensor, tokens: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """K-SEQ of independent children, all tested with one rho: fp64 (n, V), int64 (n,) -> (n, count)."""
    rho = solve_rho(p, q, torch.full((len(p),), count, device=p.device))
    taken = torch.minimum(q, p / rho.unsqueeze(-1))
    beta = taken.sum(-1).clamp(max=1.0)
    chance = _at(taken, tokens) / _at(p, tokens).clamp(min=_TINY)
    return torch.stack([chance * (1 - beta) ** number for number in range(count)], 1)


def drawn_then_certain(p: Tensor, q: Tensor, tokens: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """One drawn child, then the count - 1 likeliest tokens."""
    certain = top_children(q, count - 1)  # (n, count - 1), -1 where q has no more tokens
    rest = _without(q, certain)
    drawn = torch.minimum(_at(rest, tokens), _at(p, tokens)) / _at(p, tokens).clamp(min=_TINY)
    return torch.cat([drawn.unsqueeze(1), (certain == tokens.unsqueeze(1)).double()], 1)


def arrivals(p: Tensor, q: Tensor, tokens: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Place of the target's winner among the drafter's arrivals, sampled: the mean of RACES noises.

    x won the target's race at time t ~ Exp(1); token j is ahead of it in the drafter's iff its exponential lies in
    (t p_j, t q_j p_x / q_x).
    """
    q_x, p_x = _at(q, tokens), _at(p, tokens)
    rate = (q * (p_x / q_x.clamp(min=_TINY)).unsqueeze(-1) - p).clamp_(min=0.0)  # (n, V)
    rate.scatter_(1, tokens.unsqueeze(-1), 0.0)
    found = p.new_zeros(len(p), count)
    for _ in range(RACES):
        time = p.new_empty(len(p), 1).exponential_(generator=generator)
        noise = torch.empty_like(rate).exponential_(generator=generator)
        ahead = (noise < rate * time).sum(-1)
        ahead = torch.where(q_x > 0, ahead, count)
        found += torch.nn.functional.one_hot(ahead.clamp(max=count), count + 1)[:, :count]
    return found / RACES


def children_rule(sampler: Sampler) -> Children | None:
    """The rule of a verifier that decides level by level; None for another one."""
    verifier: Any = sampler.verifier
    if isinstance(verifier, KSeq):
        return tested_together
    if isinstance(verifier, Race):
        return arrivals
    if isinstance(verifier, RRS | Greedy):
        return _BY_SIBLINGS.get(type(verifier.siblings))
    return None


_BY_SIBLINGS: dict[type, Children] = {
    WithReplacement: independent,
    WithoutReplacement: exclusive,
    OneDrawnThenTop: drawn_then_certain,
}


def known(sampler: Sampler) -> bool:
    """Whether there is a rule for this tree."""
    return children_rule(sampler) is not None or _traverses(sampler)


def _traverses(sampler: Sampler) -> bool:
    return isinstance(sampler.verifier, Traversal) and isinstance(sampler.verifier.siblings, OneDrawnThenTop)


def tree_survival(
    sampler: Sampler, p: Tensor, q: Tensor, tokens: Tensor, goes_on: Tensor, generator: torch.Generator
) -> Tensor:
    """S(i, l) of rounds that draft the sampler's tree at each position: fp64 (n, depth + 1); see `chains.chain_survival`."""
    shape = sampler.shape
    assert isinstance(shape, Tree)
    levels = shape.levels
    rule = children_rule(sampler)
    if rule is None:
        return _Traversed(p, q, tokens, goes_on, levels).survival()
    counts = {count for level in levels for count in level if count}
    # Every rule holds several distributions of each position at once; a few positions at a time keep them small.
    rows = max(1, AT_ONCE // p.shape[-1])
    parts = list(zip(p.split(rows), q.split(rows), tokens.split(rows), strict=True))
    chances = {count: torch.cat([rule(*part, count, generator) for part in parts]) for count in sorted(counts)}
    return _level_by_level(levels, chances, goes_on)


def _level_by_level(levels: list[list[int]], chances: dict[int, Tensor], goes_on: Tensor) -> Tensor:
    n = len(goes_on)
    first = next(iter(chances.values()))
    survival = [first.new_ones(n)]
    reached = [first.new_ones(n)]  # per node of the level above: the path to it is accepted
    for depth, level in enumerate(levels):
        below = []
        for parent, count in zip(reached, level, strict=True):
            below += [parent * _shifted(chances[count][:, child], depth) for child in range(count)]
        below = [node * _may_follow(goes_on, depth) for node in below]
        reached = below
        survival.append(torch.stack(below).sum(0))
    return torch.stack(survival, 1)


class _Traversed:
    """Traversal of trees of one drawn and the likeliest children."""

    def __init__(self, p: Tensor, q: Tensor, tokens: Tensor, goes_on: Tensor, levels: list[list[int]]):
        self.p, self.q, self.tokens, self.goes_on, self.levels = p, q, tokens, goes_on, levels

    def survival(self) -> Tensor:
        """The chances of `tree_survival` for this tree, fp64 (n, depth + 1)."""
        n = len(self.tokens)
        one = self.p.new_ones(n)
        survival, nodes = [one], [(one, one)]  # (visited, mass) of each node of the level above
        for depth, level in enumerate(self.levels):
            below = [
                child
                for (visited, mass), count in zip(nodes, level, strict=True)
                if count
                for child in self._children(visited, mass, count, depth)
            ]
            follow = _may_follow(self.goes_on, depth)
            nodes = [(visited * follow, mass) for visited, mass in below]
            survival.append(torch.stack([visited * mass for visited, mass in nodes]).sum(0))
        return torch.stack(survival, 1)

    def _children(self, visited: Tensor, mass: Tensor, count: int, depth: int) -> list[tuple[Tensor, Tensor]]:
        """(visited, mass) of the children of a node, fp64 (n,) each, by the position at which the round begins."""
        n = len(self.tokens)
        begin = (visited > 0).nonzero().squeeze(-1)
        begin = begin[begin + depth < n]
        found = [(torch.zeros_like(visited), torch.zeros_like(mass)) for _ in range(count)]
        if not len(begin):
            return found
        here = begin + depth
        p, q, x, a = self.p[here], self.q[here], self.tokens[here], mass[begin]
        p_x = _at(p, x).clamp(min=_TINY)
        certain = top_children(q, count - 1)
        law = _without(q, certain)  # of the drawn child
        # A distribution without tokens left has no drawn child: nothing is tested, and nothing is owed for it.
        has = law.sum(-1) > 0
        owed = (a.unsqueeze(-1) * p - law).clamp_(min=0.0)
        rest = torch.where(has, owed.sum(-1), a)
        owed = torch.where(has.unsqueeze(-1), owed, a.unsqueeze(-1) * p)  # unnormalised: sums to `rest`
        d_x = _at(law, x)
        self._put(found[0], begin, visited[begin] * d_x / p_x, (a * p_x / d_x.clamp(min=_TINY)).clamp(max=1.0))
        failed = torch.where(has, 1.0 - a + rest, 1.0)  # all children so far
        for number in range(1, count):
            token = certain[:, number - 1]
            # mass of the node now: rest / failed; b of the child: owed / rest. A certain child has d = 1.
            taken = torch.where(token >= 0, owed.gather(-1, token.clamp(min=0).unsqueeze(-1)).squeeze(-1), 0.0)
            chance = taken / failed.clamp(min=_TINY)
            is_x = (token == x).double()
            self._put(found[number], begin, visited[begin] * failed * is_x / p_x, chance.clamp(max=1.0))
            failed = failed - taken
            owed = (
                owed.scatter(-1, token.clamp(min=0).unsqueeze(-1), 0.0)
                if bool((token >= 0).all())
                else _cleared(owed, token)
            )
        return found

    @staticmethod
    def _put(child: tuple[Tensor, Tensor], begin: Tensor, visited: Tensor, mass: Tensor) -> None:
        child[0][begin], child[1][begin] = visited, mass


def top_children(q: Tensor, count: int) -> Tensor:
    """The likeliest tokens, int64 (n, count), likeliest first, lowest id first among equals; -1 where q has no more."""
    if count == 0:
        return torch.zeros(len(q), 0, dtype=torch.int64, device=q.device)
    mask = top_tokens(q, count)
    order = torch.where(mask, q, -1.0).topk(min(count, q.shape[-1]), dim=-1)
    found = torch.where(order.values > 0, order.indices, -1)
    return torch.nn.functional.pad(found, (0, count - found.shape[1]), value=-1)


def _without(q: Tensor, certain: Tensor) -> Tensor:
    """q without these tokens (-1: none), renormalised; zero where nothing is left."""
    law = _cleared(q, certain)
    return law / law.sum(-1, keepdim=True).clamp(min=_TINY)


def _cleared(law: Tensor, tokens: Tensor) -> Tensor:
    """The distribution with 0 at these tokens, int64 (n,) or (n, k), -1: none."""
    padded = torch.nn.functional.pad(law, (0, 1))
    index = tokens if tokens.dim() == 2 else tokens.unsqueeze(-1)
    return padded.scatter_(-1, torch.where(index >= 0, index, law.shape[-1]), 0.0)[..., :-1]


def _shifted(values: Tensor, depth: int) -> Tensor:
    """values[i + depth] for each i, 0 behind the end: (n,) -> (n,)."""
    return torch.nn.functional.pad(values[depth:], (0, min(depth, len(values))))


def _may_follow(goes_on: Tensor, depth: int) -> Tensor:
    """A draft at this depth may follow the token before it: fp64 (n,), by the position at which the round begins."""
    return torch.ones_like(goes_on, dtype=torch.float64) if depth == 0 else _shifted(goes_on.double(), depth - 1)


def _draw(weights: Tensor, generator: torch.Generator) -> Tensor:
    """One token per row in proportion to the weights (n, V), any where all are zero: int64 (n,)."""
    cumulated = weights.cumsum(-1)
    u = torch.rand(len(weights), 1, dtype=weights.dtype, device=weights.device, generator=generator)
    return torch.searchsorted(cumulated, u * cumulated[:, -1:], right=True).squeeze(-1).clamp(max=weights.shape[-1] - 1)


def _at(law: Tensor, tokens: Tensor) -> Tensor:
    return law.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
