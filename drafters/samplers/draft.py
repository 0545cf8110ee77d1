"""What proposals, verifiers and the engine hand each other. Axes: B rows, M drafted nodes, V target and D drafter vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from drafters.coins import Coins, Key

MISS = -1  # token of a node whose proposal produced no target token
ROOT, ABSENT = -1, -2  # parents: the committed prefix; no such node in this row


class Laws(Protocol):
    """The laws that drafted tokens were drawn from: kept, never recomputed."""

    def at(self, tokens: Tensor) -> Tensor:
        """(B, M) the draft's tokens -> fp64 (B, M) the probability each was drawn with (0 for a miss or an absent node)."""
        ...

    def row(self, node: Tensor) -> Tensor:
        """(B,) node per row, -1 for none -> (B, V) law the node was drawn from, a zero row for none."""
        ...


@dataclass(frozen=True)
class Draft:
    """M nodes in topological order, siblings in draw order; a chain is a tree."""

    tokens: Tensor  # int64 (B, M) target ids, MISS = no target token
    parent: Tensor  # int64 (B, M) index of the parent node, ROOT or ABSENT
    q: Laws | None  # None for coupled and target-only samplers

    @property
    def present(self) -> Tensor:
        """bool (B, M): the row has this node (a miss counts: it was drawn)."""
        return self.parent > ABSENT


@dataclass(frozen=True)
class Verdict:
    """The accepted path and the token after it."""

    nodes: Tensor  # int64 (B, depth) accepted path, -1 past its end
    accepted: Tensor  # int64 (B,)
    next_token: Tensor  # int64 (B,) residual, race or bonus token: always emitted


class TokenProposal(Protocol):
    """Drafter law over D -> law over V that tokens are really drawn from (Timor et al. 2025)."""

    support: Tensor | None  # bool (D,) drafter tokens to mask *before* warping; None = all allowed

    def lift(self, q: Tensor) -> Tensor:
        """(..., D) -> (..., V), rows sum to one."""
        ...


class Verifier(Protocol):
    """Decides a round. No model, no cache, no clock."""

    needs_law: bool  # verify reads Draft.q
    positional: bool  # coins depend on the position alone, not on the round (coupled and target-only samplers)
    tree: bool  # accepts trees, not only chains

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """(B, V) law of one node -> int64 (B, count) children in draw order; chain verifiers draw one, -1 = no such child."""
        ...

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """p (B, M + 1, V): the target's laws after the prefix (row 0) and after each node; key.position = committed length."""
        ...


@dataclass(frozen=True)
class Chain:
    """Tree shape of one branch: each node has one child. Its length is the stop policy's business."""


@dataclass(frozen=True)
class Tree:
    """Tree shape with `branching[l]` children for every node at depth l. Raises ValueError unless all are >= 1."""

    branching: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.branching or min(self.branching) < 1:
            raise ValueError(f"tree branching must hold numbers >= 1, one per depth, got {self.branching}.")


@dataclass(frozen=True)
class Sampler:
    """A named, lossless way to draft and verify."""

    name: str
    proposal: TokenProposal
    verifier: Verifier
    shape: Chain | Tree = field(default_factory=Chain)


@dataclass
class ChainLaws:
    """Laws of a chain: one drafter law over D per node, kept as drawn from and lifted to V again only where a rejection needs it."""

    proposal: TokenProposal
    rows: list[Tensor] = field(default_factory=list)  # M times (B, D)
    probabilities: list[Tensor] = field(default_factory=list)  # M times fp64 (B,)

    def append(self, q: Tensor, probability: Tensor) -> None:
        """Keep node M's drafter law (B, D) and its token's probability under the lifted law (B,)."""
        self.rows.append(q)
        self.probabilities.append(probability.double())

    def at(self, tokens: Tensor) -> Tensor:
        """See Laws.at. Raises ValueError if asked about other tokens than the M drafted ones."""
        if tokens.shape[1] != len(self.probabilities):
            raise ValueError(
                f"tokens must be the draft's (B, M) with M = {len(self.probabilities)}, got {tuple(tokens.shape)}."
            )
        if not self.probabilities:
            return torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        return torch.stack(self.probabilities, dim=1)

    def row(self, node: Tensor) -> Tensor:
        """See Laws.row."""
        if not self.rows:  # a round without drafts: nothing to take away, whatever V is
            return torch.zeros(node.shape[0], 1, dtype=torch.float64, device=node.device)
        if len(self.rows) == 1:
            law = self.rows[0]
        else:
            rows = torch.arange(node.shape[0], device=node.device)
            law = torch.stack(self.rows)[node.clamp(min=0), rows]
        return self.proposal.lift(law) * (node >= 0).unsqueeze(-1)


@dataclass
class TreeLaws:
    """Laws of a tree: one drafter law over D per parent, and for each node which parent's it is."""

    proposal: TokenProposal
    rows: list[Tensor] = field(default_factory=list)  # per parent (B, D)
    source: list[int] = field(default_factory=list)  # per node: index into rows
    probabilities: list[Tensor] = field(default_factory=list)  # per node fp64 (B,)

    def at(self, tokens: Tensor) -> Tensor:
        """See Laws.at: the probability of each token under its parent's law, siblings not taken out."""
        if tokens.shape[1] != len(self.source):
            raise ValueError(
                f"tokens must be the draft's (B, M) with M = {len(self.source)}, got {tuple(tokens.shape)}."
            )
        if not self.probabilities:
            return torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        return torch.stack(self.probabilities, dim=1)

    def row(self, node: Tensor) -> Tensor:
        """See Laws.row: the lifted law of the node's parent, siblings not taken out."""
        if not self.rows:
            return torch.zeros(node.shape[0], 1, dtype=torch.float64, device=node.device)
        source = torch.tensor(self.source, device=node.device)[node.clamp(min=0)]
        law = torch.stack(self.rows)[source, torch.arange(node.shape[0], device=node.device)]
        return self.proposal.lift(law) * (node >= 0).unsqueeze(-1)
