"""What proposals, verifiers and the engine hand each other. Axes: B rows, M drafted nodes, V target and D drafter vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from drafters.rng.coins import Coins, Key

MISS = -1  # token of a node whose proposal produced no target token
ROOT, ABSENT = -1, -2  # parents: the committed prefix; no such node in this row


class Laws(Protocol):
    """The distributions that drafted tokens were drawn from: kept, never recomputed."""

    def at(self, tokens: Tensor) -> Tensor:
        """(B, M) the draft's tokens -> fp64 (B, M) the probability each was drawn with (0 for a miss or an absent node)."""
        ...

    def row(self, node: Tensor) -> Tensor:
        """(B,) node per row, -1 for none -> (B, V) distribution the node was drawn from, a zero row for none."""
        ...


@dataclass(frozen=True)
class Draft:
    """The drafted tokens of a round: M nodes in topological order, siblings in draw order; a chain is a tree."""

    tokens: Tensor  # int64 (B, M) target ids, MISS = no target token
    parent: Tensor  # int64 (B, M) index of the parent node, ROOT or ABSENT
    q: Laws | None  # None for coupled and target-only samplers

    @property
    def present(self) -> Tensor:
        """bool (B, M): the row has this node (a miss counts: it was drawn)."""
        return self.parent > ABSENT

    @property
    def laws(self) -> Laws:
        """The distributions drawn from. Raises ValueError if none were kept."""
        if self.q is None:
            raise ValueError(
                "this verifier needs the laws drawn from, but the draft has none: set needs_law on the verifier."
            )
        return self.q


@dataclass(frozen=True)
class Verdict:
    """The accepted path and the token after it."""

    nodes: Tensor  # int64 (B, depth) accepted path, -1 past its end
    accepted: Tensor  # int64 (B,)
    next_token: Tensor  # int64 (B,) residual, race or bonus token: always emitted


class TokenProposal:
    """Drafter distribution over D -> distribution over V that tokens are really drawn from (Timor et al. 2025)."""

    support: Tensor | None = None  # bool (D,): tokens that may be drawn, others are masked *before* warping; None = all
    total: bool = True  # rows of `lift` sum to one; otherwise what is left is a miss, and `extend` must be overridden

    def lift(self, q: Tensor) -> Tensor:
        """(..., D) -> (..., V), rows sum to one, or to less where a draw may miss."""
        raise NotImplementedError

    def extend(self, q: Tensor) -> Tensor:
        """(..., D) -> (..., V + 1): the whole distribution that is drawn from, the probability of a miss last."""
        raise NotImplementedError


class Session(Protocol):
    """One round as a string-level proposal sees it: B rows of text, and a drafter to continue them with."""

    @property
    def key(self) -> Key:
        """The key of the round: position int64 (B,) is the committed length, -1 for rows that are finished."""
        ...

    @property
    def room(self) -> list[int]:
        """How many target tokens each row may draft."""
        ...

    @property
    def eos(self) -> tuple[int, ...]:
        """Target ids that end a text."""
        ...

    def committed(self, row: int) -> list[int]:
        """Target ids of the row so far, prompt included."""
        ...

    def wants(self, drafted: Tensor) -> Tensor:
        """Ask the stop policy before a draw: int64 (B,) drawn so far this round -> bool (B,)."""
        ...

    def law(self) -> Tensor:
        """The drafter's distribution, warped, of what follows all that each row has been fed: (B, D)."""
        ...

    def feed(self, ids: Tensor) -> None:
        """Continue the rows by these drafter ids, int64 (B,); -1 leaves a row as it is (its next q means nothing)."""
        ...


class StringProposal:
    """Drafts from text to text; the target's tokens alone are verified (Timor et al. 2025)."""

    def propose(self, session: Session, coins: Coins) -> Draft:
        """Draft a chain of at most `session.room` target tokens per row."""
        raise NotImplementedError

    def stream(self, drafted: list[int], tokens: list[int]) -> list[int]:
        """Drafter ids of the committed target tokens, opening with as many of the drafter's own drafted ids as still fit."""
        raise NotImplementedError


class Verifier:
    """Decides which drafts of a round become output, from p, q and coins alone."""

    needs_law: bool = True  # verify reads Draft.q
    positional: bool = False  # coins depend on the position alone, not on the round (coupled and target-only samplers)
    tree: bool = False  # accepts trees, not only chains
    coupled: bool = False  # draws and decides by shared noise: the output is plain race decoding's, proved path by path
    stepwise: bool = False  # decides a chain token by token, so that several servers can decide parts of it
    tensors_only: bool = False  # verify takes no decision on the host

    @property
    def scheme(self) -> str:
        """How a node's children are drawn from its q: with_replacement, without_replacement or greedy."""
        return "with_replacement"

    @property
    def compiles(self) -> bool:
        """Whether compiled code may draw and verify in its place: it takes no decision on the host, and draws as the base class."""
        return self.tensors_only and type(self).draw is Verifier.draw

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """Draw children from a node's q (B, V): int64 (B, count) in draw order, -1 = no such child; chains draw one.

        By default independent draws: lossless for every verifier that reads q or needs none.
        """
        return torch.stack([coins.draw(q, key.at(draw=key.draw + number)) for number in range(count)], 1)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """The verdict for p (B, M + 1, V), after the prefix (row 0) and each node; key.position is the committed length."""
        raise NotImplementedError


@dataclass(frozen=True)
class Chain:
    """Tree shape of one branch: each node has one child. Its length is the stop policy's business."""


@dataclass(frozen=True)
class Tree:
    """Tree shape, depth by depth: `branching[l]` is the number of children of every node at depth l, or each node's own.

    Depth 0 is the root. Raises ValueError for a depth without children, and for a tuple of another length than its depth has nodes.
    """

    branching: tuple[int | tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.levels:
            raise ValueError(
                "tree branching must have at least one depth, got none; use Chain() to draft without branches."
            )

    @property
    def levels(self) -> list[list[int]]:
        """Children of each node, depth by depth, in breadth-first order."""
        levels: list[list[int]] = []
        nodes = 1
        for counts in self.branching:
            level = [counts] * nodes if isinstance(counts, int) else list(counts)
            if len(level) != nodes or min(level) < 0 or sum(level) == 0:
                raise ValueError(
                    f"tree branching must hold, per depth, a number >= 1 or one number >= 0 for each node, not all 0; "
                    f"got {counts} for the {nodes} nodes at depth {len(levels)} of {self.branching}."
                )
            levels.append(level)
            nodes = sum(level)
        return levels


@dataclass(frozen=True)
class Sampler:
    """A named, lossless way to draft and verify."""

    name: str
    proposal: TokenProposal | StringProposal
    verifier: Verifier
    shape: Chain | Tree = field(default_factory=Chain)

    def __post_init__(self) -> None:
        # Siblings of a miss would have to be drawn from, and tested against, distributions of the extended vocabulary.
        # A string-level draft is a chain that may end early.
        total = isinstance(self.proposal, TokenProposal) and self.proposal.total
        if not total and (self.verifier.tree or isinstance(self.shape, Tree)):
            raise ValueError(
                f"sampler {self.name!r}: a proposal that may miss needs a chain and a verifier of chains, e.g. rejection or "
                "block; trees need a proposal whose law sums to one, e.g. tli."
            )

    @property
    def token_proposal(self) -> TokenProposal:
        """The proposal of a sampler that drafts token by token. Raises TypeError for a string-level one."""
        if not isinstance(self.proposal, TokenProposal):
            raise TypeError(f"sampler {self.name!r} drafts text, not tokens: it has no law to lift.")
        return self.proposal


@dataclass
class DrawnLaws:
    """One drafter distribution over D per parent, kept as drawn from and lifted to V only where it is asked for."""

    proposal: TokenProposal
    rows: list[Tensor] = field(default_factory=list)  # per parent (B, D)
    source: list[int] = field(default_factory=list)  # per node: index into rows
    probabilities: list[Tensor] = field(default_factory=list)  # per node fp64 (B,)

    def open(self, q: Tensor) -> None:
        """The nodes appended from now on are drawn from the drafter distribution (B, D)."""
        self.rows.append(q)

    def append(self, probability: Tensor) -> None:
        """One more node: its token's probability (B,) under the lifted distribution, siblings not taken out."""
        self.source.append(len(self.rows) - 1)
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
        """See Laws.row: the lifted distribution of the node's parent, siblings not taken out."""
        nodes = node.tolist()
        wanted = [self.source[index] if index >= 0 else None for index in nodes]
        laws = sorted({index for index in wanted if index is not None})
        if not laws:  # nothing to take away, whatever V is
            return torch.zeros(len(nodes), 1, dtype=torch.float64, device=node.device)
        law = self.rows[laws[0]]
        if len(laws) > 1:  # a copy of B rows, not of all distributions
            law = torch.stack([self.rows[laws[0] if index is None else index][row] for row, index in enumerate(wanted)])
        lifted = self.proposal.lift(law)
        return lifted if None not in wanted else lifted * (node >= 0).unsqueeze(-1)
