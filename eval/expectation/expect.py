"""Expectations of many configurations on one common text, a document at a time: p and q are kept no longer than it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.engine.drafting.chain import usable
from drafters.probs import Sampling, warp
from drafters.samplers.draft import Chain, Sampler, StringProposal
from eval.expectation import chain_chances, tree_chances
from eval.expectation.common_text import Continuation, drafted, drafter_logits, readable, target_logits
from eval.expectation.expected_rounds import Array, Followed
from eval.run.configurations import Drafter


@dataclass(frozen=True)
class Expectation:
    """A drafter and a sampler on the common text, one entry per text."""

    acceptance: list[Array]  # (n,) that a round beginning there has its first draft (of a tree: one child) accepted
    followed: list[Followed]

    @property
    def longest(self) -> int:
        """Drafts, or levels, of the longest round it knows of."""
        return self.followed[0].survival.shape[1] - 1


def has_rule(sampler: Sampler) -> bool:
    """Whether acceptance follows from p and q on the text: not for drafts of text, nor rules that look off its path."""
    if isinstance(sampler.proposal, StringProposal):
        return False
    return chain_chances.known(sampler.verifier) if isinstance(sampler.shape, Chain) else tree_chances.known(sampler)


def expectations(
    texts: Sequence[Continuation],
    drafters: Sequence[Drafter],
    samplers: Mapping[str, Mapping[str, Sampler]],
    sampling: Sampling,
    draft_sampling: Sampling | None,
    longest: int,
    seed: int,
    advance: Callable[[int], object] = lambda positions: None,
) -> dict[tuple[str, str], Expectation]:
    """Expectations by (drafter, label).

    Args:
        texts: of the target under `sampling`.
        drafters: all with one target. samplers: drafter -> label -> sampler; those without a rule are left out.
        draft_sampling: how drafters make their distributions; None: as the target.
        longest: drafts of the longest chain asked about.
        seed: of what a few rules sample, the same for each sampler: what one is given hangs on no other.
        advance: told the positions of each text.
    """
    found: dict[tuple[str, str], Expectation] = {}
    for number, text in enumerate(texts):
        p = target_law(target_logits(drafters[0].pair, text), text.new, sampling).cpu()
        for drafter in drafters:
            wanted = {label: item for label, item in samplers.get(drafter.name, {}).items() if has_rule(item)}
            if wanted:
                made = _of_text(text, p, drafter, wanted, draft_sampling or sampling, longest, seed + number)
                for label, (accepted, followed) in made.items():
                    item = found.setdefault((drafter.name, label), Expectation([], []))
                    item.acceptance.append(accepted)
                    item.followed.append(followed)
        advance(len(text.new))
    return found


def _of_text(
    text: Continuation,
    p: Tensor,
    drafter: Drafter,
    samplers: Mapping[str, Sampler],
    drafting: Sampling,
    longest: int,
    seed: int,
) -> dict[str, tuple[Array, Followed]]:
    """(acceptance, rounds) of each sampler on one text, whose distribution is p (n, V)."""
    new, count = text.new.cpu(), drafted(drafter.pair, text)
    logits, goes_on = drafter_logits(drafter.pair, text), readable(drafter.pair, text).cpu()
    limit = text.limit if count == len(new) else count + 1  # where the drafter's context is full, no round drafts
    found = {}
    for label, sampler in samplers.items():
        q, generator = draft_law(logits, sampler, drafting), torch.Generator().manual_seed(seed)
        survival = _survival(sampler, p, q, new, goes_on, longest, generator)
        accepted = _acceptance(sampler, p, q, survival)
        accepted[count:] = 0.0
        found[label] = accepted.numpy(), Followed(survival.numpy(), goes_on.numpy(), limit)
    return found


def target_law(logits: Tensor, tokens: Tensor, sampling: Sampling) -> Tensor:
    """What the text int64 (n,) was drawn from, of logits (n, V): fp64 (n, V), above 0 at the text's tokens.

    Read again in one forward, logits are other ones up to rounding. Where a text's token is left without probability (a tie at
    temperature 0, the edge of top-p), it is given some: all, or as much as the least likely other one has.
    """
    p = warp(logits, sampling).double()
    token = tokens.to(p.device).unsqueeze(-1)
    lost = p.gather(-1, token) <= 0  # (n, 1)
    if not bool(lost.any()):
        return p
    least = torch.where(p > 0, p, torch.inf).amin(-1, keepdim=True)
    given = torch.zeros_like(p).scatter_(-1, token, 1.0) if sampling.greedy else p.scatter(-1, token, least)
    return torch.where(lost, given / given.sum(-1, keepdim=True), p)


def draft_law(logits: Tensor, sampler: Sampler, sampling: Sampling) -> Tensor:
    """What drafts are drawn from, fp64 (n, V): made of the head's logits (n, D) by the calls that drafting makes."""
    law = warp(usable(logits, sampler), sampling)
    return sampler.token_proposal.lift(law).double().cpu()


def _survival(
    sampler: Sampler, p: Tensor, q: Tensor, tokens: Tensor, goes_on: Tensor, longest: int, generator: torch.Generator
) -> Tensor:
    if isinstance(sampler.shape, Chain):
        return chain_chances.chain_survival(sampler.verifier, p, q, tokens, goes_on, longest)
    return tree_chances.tree_survival(sampler, p, q, tokens, goes_on, generator)


def _acceptance(sampler: Sampler, p: Tensor, q: Tensor, survival: Tensor) -> Tensor:
    """fp64 (n,). Of a tree: given the text's token, whose mean is the same."""
    if isinstance(sampler.shape, Chain):
        return chain_chances.chain_acceptance(sampler.verifier, p, q)
    return survival[:, 1]
