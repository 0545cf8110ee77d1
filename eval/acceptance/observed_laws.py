"""Logs the distributions (p, q) that a verifier is given at the root of each round of the production engine.

A verifier that wraps another one notes, per round and row, the target's distribution, the distribution that the first
child was drawn from and whether any child was accepted. From these, eval.acceptance.optimality_gap computes exactly the
expected acceptance of the verifier and the optimum for its drafts, to compare with what was accepted. The distribution
that verification reads is compared with the one drawn from.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import ROOT, Draft, Sampler, StringProposal, Verdict, Verifier

KEPT_TOLERANCE = 1e-6  # of one lifting of a distribution and the next one, on devices that add in any order


@dataclass(frozen=True)
class Observed:
    """R rounds that drafted something. Where a draft may miss, q has the miss as one more token, which p never emits."""

    p: Tensor  # (R, V or V + 1) target's distribution
    q: Tensor  # (R, V or V + 1) distribution the first child was drawn from
    accepted: Tensor  # bool (R,) one of the root's children was accepted
    tampered: int  # rounds in which the distribution read by the verifier was not the one drawn from

    def sample(self, rounds: int) -> Observed:
        """At most so many rounds, evenly spread."""
        if len(self.p) <= rounds:
            return self
        chosen = torch.linspace(0, len(self.p) - 1, rounds).long()
        return Observed(self.p[chosen], self.q[chosen], self.accepted[chosen], self.tampered)


@dataclass
class Observer(Verifier):
    """A verifier that decides as `inner` does and logs the distributions it was given."""

    inner: Verifier
    p: list[Tensor] = field(default_factory=list)
    q: list[Tensor] = field(default_factory=list)
    accepted: list[Tensor] = field(default_factory=list)
    tampered: int = 0
    _drawn: Tensor | None = None  # (B, V or V + 1) of the round in progress
    needs_law: bool = field(init=False)
    positional: bool = field(init=False)
    tree: bool = field(init=False)
    coupled: bool = field(init=False)

    def __post_init__(self) -> None:
        inner = self.inner
        self.needs_law, self.positional = inner.needs_law, inner.positional
        self.tree, self.coupled = inner.tree, inner.coupled  # it draws by itself, so that nothing is compiled

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """Draw children as `inner` does, and note the distribution of the root's; see `Verifier.draw`."""
        if isinstance(key.node, int) and key.node == 0:  # the root's children, in chains and in trees
            self._drawn = q
        return self.inner.draw(q, coins, key, count)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """Decide as `inner` does, and note p, q and whether a child was accepted; see `Verifier.verify`."""
        rows = None
        if self._drawn is not None and draft.tokens.shape[1]:
            rows = self._note(p[:, 0], self._drawn, draft, key)  # before the verifier works on p
        self._drawn = None
        verdict = self.inner.verify(p, draft, coins, key)
        if rows is not None:
            self.accepted.append((verdict.accepted[rows] > 0).cpu())
        return verdict

    def result(self) -> Observed | None:
        """All rounds; None if nothing was drafted."""
        if not sum(map(len, self.p)):
            return None
        return Observed(torch.cat(self.p), torch.cat(self.q), torch.cat(self.accepted), self.tampered)

    def _note(self, p: Tensor, drawn: Tensor, draft: Draft, key: Key) -> Tensor:
        """Log the rows that have drafted; returns which, int64 (R,)."""
        child = draft.parent == ROOT  # (B, M); the first one drawn may be absent: q can have too few tokens
        rows = ((key.position >= 0) & child.any(1)).nonzero().squeeze(-1)
        vocabulary = p.shape[-1]
        if draft.q is not None and len(rows):
            first = torch.full_like(key.position, -1)
            first[rows] = child.int().argmax(1)[rows]
            kept = draft.q.row(first)[rows].double()
            gap = (kept - drawn[rows, :vocabulary].double()).abs().amax(-1)
            self.tampered += int((gap > KEPT_TOLERANCE).sum())
        misses = drawn.shape[-1] - vocabulary
        self.p.append(torch.nn.functional.pad(p[rows], (0, misses)).cpu())
        self.q.append(drawn[rows].cpu())
        return rows


def observe(sampler: Sampler) -> tuple[Sampler, Observer] | None:
    """The same sampler with its verifier in an `Observer`; None for a string-level one, whose drafts have no q."""
    if isinstance(sampler.proposal, StringProposal):
        return None
    observer = Observer(sampler.verifier)
    return dataclasses.replace(sampler, verifier=observer), observer
