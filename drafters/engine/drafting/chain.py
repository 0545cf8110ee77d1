"""Drafting a chain: warp -> lift -> draw happen here and nowhere else; what was drawn from is kept with the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drafters.engine.cache.cached_model import Model, TransformersModel
from drafters.engine.drafting.compiled_chain import CompiledChain
from drafters.engine.limits import Limits
from drafters.engine.requests import Row, padded
from drafters.engine.transformers_pair import Pair, TransformersPair
from drafters.probs import Sampling, picked, warp
from drafters.rng.coins import Coins, Key, KeyedCoins
from drafters.samplers.draft import ABSENT, MISS, Draft, DrawnLaws, Laws, Sampler, StringProposal
from drafters.samplers.proposal.identity import Identity
from drafters.stop.features import describe, shown_law
from drafters.stop.policy import StopPolicy


@dataclass
class Proposed:
    """A draft and what the drafter's cache holds because of it."""

    draft: Draft
    fed: int | None  # nodes the drafter has been fed, in order; None if it was not called at all


def empty_draft(rows: int, device: torch.device, laws: Laws | None = None) -> Draft:
    """A round without drafts: (B, 0)."""
    nothing = torch.zeros(rows, 0, dtype=torch.int64, device=device)
    return Draft(nothing, nothing, laws)


@dataclass(frozen=True)
class Drafting:
    """The drafter, sampler and settings that draft for a batch, the same in every round of a decode call."""

    drafter: Model
    pair: Pair
    rows: list[Row]
    sampler: Sampler
    stop: StopPolicy
    sampling: Sampling  # how the drafter's distribution is made
    eos: Tensor  # int64 (n,), on the pair's device

    @cached_property
    def chain(self) -> CompiledChain | None:
        """How to draft a whole chain at once; None where it must go token by token."""
        compiled = isinstance(self.drafter, TransformersModel) and self.drafter.steps is not None  # of one row
        read_as_is = isinstance(self.pair, TransformersPair) and self.pair.table is None
        return CompiledChain.of(self.sampler, self.stop, self.sampling) if compiled and read_as_is else None

    @cached_property
    def spelled(self) -> StringProposal | None:
        """The proposal where it drafts text."""
        proposal = self.sampler.proposal
        return proposal if isinstance(proposal, StringProposal) else None

    @cached_property
    def ends(self) -> frozenset[int]:
        """The ids of `eos` as a set on the host."""
        return frozenset(self.eos.tolist())

    def can_follow(self, tokens: Tensor) -> Tensor:
        """bool: nothing follows a miss, an EOS, or a token that the drafter cannot read."""
        readable = self.pair.feed_one(tokens.flatten()).view_as(tokens) >= 0
        return (tokens >= 0) & readable & ~torch.isin(tokens, self.eos)

    def leads_on(self, token: int) -> bool:
        """`can_follow` of one token on the host."""
        return token >= 0 and token not in self.ends and len(self.pair.feed(token)) == 1

    def feed(self, tokens: Tensor, slots: Tensor | None = None) -> Tensor:
        """The drafter's logits after drafted tokens (B, n): (B, n, D). Absent ones are fed as junk; see Model.extend."""
        fed = self.pair.feed_one(tokens.flatten()).view_as(tokens).clamp(min=0)
        logits = self.drafter.extend(fed, slots)
        assert logits is not None
        return logits

    def laws(self) -> DrawnLaws:
        """An empty record of distributions drawn from."""
        return DrawnLaws(self.sampler.token_proposal)

    def follow(self, tokens: list[int]) -> Tensor:
        """`feed` of one token per row on the host: the logits (B, D) after it."""
        spelled = [self.pair.feed(token) if token >= 0 else [] for token in tokens]
        logits = self.drafter.extend(torch.tensor([ids if len(ids) == 1 else [0] for ids in spelled]))
        assert logits is not None
        return logits[:, -1]

    def proposed(self, nodes: tuple[Tensor, Tensor] | None, laws: DrawnLaws, fed: int) -> Proposed:
        """The draft of tokens and parents (B, M), None for no nodes; `fed` of them are in the drafter's cache."""
        kept = laws if self.sampler.verifier.needs_law else None
        if nodes is None:
            return Proposed(empty_draft(len(self.rows), self.eos.device, kept), None)
        return Proposed(Draft(*nodes, kept), fed)


def rooms(drafting: Drafting, limits: Limits, nodes: int) -> list[int]:
    """Tokens each row may draft; a row whose drafter context is full stops drafting and frees its place in the cache."""
    rows, drafter = drafting.rows, drafting.drafter
    for number, row in enumerate(rows):
        if row.drafting and len(row.stream) + nodes > drafter.capacity:
            row.stop_drafting()
            row.fed = 1
            drafter.keep([[0] if other == number else [] for other in range(len(rows))])
    return [row.room(limits) for row in rows]


def propose_chain(drafting: Drafting, room: list[int], coins: Coins, key: Key) -> Proposed:
    """Draft up to `room` tokens per row, each drawn from the drafter's lifted distribution after those before it."""
    sampler, stop, device = drafting.sampler, drafting.stop, key.position.device
    unread: list[list[int]] | None = None
    if drafting.chain is not None and room[0] >= stop.max_length:
        unread = pending(drafting.drafter, drafting.rows)
        whole = _at_once(drafting, drafting.chain, unread[0], coins, key)
        if whole is not None:
            return whole
    tokens, parents, laws = list[list[int]](), list[list[int]](), drafting.laws()  # per node, per row
    # Which rows draft on is kept in Python lists: the loop reads it after every draft, and a tensor operation on B
    # numbers costs more in overhead than the list does.
    committed, drafted, going = key.position.tolist(), [0] * len(room), [allowed > 0 for allowed in room]
    drawn_so_far = torch.zeros_like(key.position)
    features: Tensor | None = None  # of the last draw, for policies that read any
    described = stop.asks_from  # the first draw of which a policy is told
    noting = None if described is None else Noting(drafting, key.position)
    for node in range(min(stop.max_length, max(room))):
        unasked = stop.constant or (described is not None and 0 < node < described)
        asked = going if unasked else stop.should_continue(features, drawn_so_far).tolist()
        going = [go and more and n < most for go, more, n, most in zip(going, asked, drafted, room, strict=True)]
        if not any(going):
            break
        logits = drafting.follow(tokens[-1]) if tokens else catch_up(drafting.drafter, drafting.rows, unread)
        masked = usable(logits, sampler)
        q = warp(masked, drafting.sampling)  # (B, D)
        position = [begin + node if go else -1 for begin, go in zip(committed, going, strict=True)]
        name = Key(torch.tensor(position, device=device), key.round, "draft", node)
        law, children = draw_children(q, sampler, coins, name)
        chance = picked(law, children)[:, 0]
        if not all(going):
            chance = chance * torch.tensor(going, device=device)
        laws.open(q)
        laws.append(chance)
        tokens.append([ids[0] if go else MISS for ids, go in zip(children.tolist(), going, strict=True)])
        parents.append([node - 1 if go else ABSENT for go in going])
        if noting is not None and described is not None and node + 1 >= described:
            features = noting.note(q, masked, chance, drawn_so_far)
        drafted = [n + go for n, go in zip(drafted, going, strict=True)]
        if not stop.constant:
            drawn_so_far = torch.tensor(drafted, device=device)
        going = [go and drafting.leads_on(token) for go, token in zip(going, tokens[-1], strict=True)]
    if not tokens:
        return drafting.proposed(None, laws, 0)
    nodes, above = (torch.tensor(list(zip(*lists, strict=True)), device=device) for lists in (tokens, parents))
    return drafting.proposed((nodes, above), laws, len(tokens) - 1)


def _at_once(drafting: Drafting, chain: CompiledChain, unread: list[int], coins: Coins, key: Key) -> Proposed | None:
    """The same by one piece of compiled code, None where there is none."""
    drafter = drafting.drafter
    if not isinstance(drafter, TransformersModel) or not isinstance(coins, KeyedCoins) or coins.strict:
        return None  # strict coins note their uses
    found = drafter.perform(chain, torch.tensor([unread]), lambda: chain.given(key, coins))
    if found is None:
        return None
    drawn, chances, law = found
    ends = (node for node, token in enumerate(drawn[0].tolist()) if not drafting.leads_on(token))
    count = min(next(ends, chain.length) + 1, chain.length)  # nothing is drawn behind a token that ends the text
    kept = list(law.unbind())[:count], list(range(count)), list(chances.unbind())[:count]
    laws = DrawnLaws(Identity(), *kept)  # lifted already
    nodes = drawn[:, :count], chain.parents[:, :count].to(drawn.device)
    return drafting.proposed(nodes, laws, min(count, chain.length - 1))


class Noting:
    """Notes the features of every draw of a round, for policies that read them."""

    def __init__(self, drafting: Drafting, committed: Tensor):
        self.sampling, rows = drafting.sampling, drafting.rows
        self.position = committed - torch.tensor([row.prompt for row in rows], device=committed.device)
        self.streak, self.recent = torch.tensor([row.past for row in rows], device=committed.device).unbind(-1)

    def note(self, q: Tensor, masked: Tensor, chance: Tensor, drafted: Tensor) -> Tensor:
        """Features (B, F) of a draw from q (B, D) out of `masked` logits, where (B,) were drafted before it."""
        shown = shown_law(q, masked, self.sampling)
        likely = shown.amax(-1) if self.sampling.greedy else chance  # greedy's draw is the likeliest token
        past = (drafted, self.streak, self.recent)
        return describe(shown, likely, self.position + drafted, past, self.sampling.temperature)


def drafting_law(logits: Tensor, sampler: Sampler, sampling: Sampling) -> Tensor:
    """Mask to the tokens the proposal can use, then warp: (..., D) -> (..., D)."""
    return warp(usable(logits, sampler), sampling)


def usable(logits: Tensor, sampler: Sampler) -> Tensor:
    """Logits (..., D) of the tokens that the proposal can use; the others are -inf."""
    support = sampler.token_proposal.support
    return logits if support is None else logits.masked_fill(~support.to(logits.device), -torch.inf)


def draw_children(q: Tensor, sampler: Sampler, coins: Coins, key: Key, count: int = 1) -> tuple[Tensor, Tensor]:
    """Lift q (B, D) and draw: the lifted q (B, V) and int64 (B, count) children, MISS where there is no target token."""
    proposal = sampler.token_proposal
    if proposal.total:
        law = proposal.lift(q)
        return law, sampler.verifier.draw(law, coins, key, count)
    extended = proposal.extend(q)  # the last column is the miss
    drawn = sampler.verifier.draw(extended, coins, key, count)
    return extended[:, :-1], torch.where(drawn < extended.shape[-1] - 1, drawn, MISS)


def pending(drafter: Model, rows: list[Row]) -> list[list[int]]:
    """What was committed since the last round, at least one token, noted as fed: the caller feeds it."""
    # A row with nothing new (no drafter id spells it) is fed its last token again.
    if any(row.fed == len(row.stream) for row in rows):
        drafter.keep([[row.fed - 2] if row.fed == len(row.stream) else [] for row in rows])
    unfed = [row.stream[min(row.fed, len(row.stream) - 1) :] for row in rows]
    for row in rows:
        row.fed = len(row.stream)
    return unfed


def catch_up(drafter: Model, rows: list[Row], unread: list[list[int]] | None = None) -> Tensor:
    """Feed what was committed since the last round, `unread` if that is known: logits after each row's last token (B, D)."""
    unfed = pending(drafter, rows) if unread is None else unread
    tokens, counts = padded(unfed, torch.device("cpu"))
    logits = drafter.extend(tokens, counts=counts, last=True)
    assert logits is not None
    return logits[:, -1]


def settle(drafting: Drafting, fed: int | None, paths: list[list[int]], fresh: list[list[int]]) -> None:
    """After a round: roll the drafter's cache back to the accepted path and extend the streams by what was committed."""
    spelled = [[drafting.pair.feed(token) for token in tokens] for tokens in fresh]
    if fed is not None:
        kept = []
        for row, parts, path in zip(drafting.rows, spelled, paths, strict=True):
            known = [node for node in path[: _singles(parts)] if node < fed]
            kept.append([row.fed - 1, *(row.fed + node for node in known)])
            row.fed += len(known)
        drafting.drafter.keep(kept)
    for row, parts in zip(drafting.rows, spelled, strict=True):
        if row.drafting:
            row.stream.extend(part for ids in parts for part in ids)


def _singles(spelled: list[list[int]]) -> int:
    """How many leading tokens were fed while drafting: only those that are one drafter id each."""
    return next((count for count, ids in enumerate(spelled) if len(ids) != 1), len(spelled))
