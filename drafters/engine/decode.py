"""The executors: plain autoregressive decoding and speculative decoding, in one process.

A round: draft, one target forward over the last committed token and the drafts, verify, commit, roll both caches back. A round of
zero drafts is a plain target step, so autoregressive decoding is the same loop without a drafter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drafters.coins import Coins, Key
from drafters.engine.cache import Model
from drafters.engine.limits import Limits
from drafters.engine.propose import empty_draft, propose_chain, settle
from drafters.engine.propose_tree import propose_tree
from drafters.engine.rows import Row, padded
from drafters.engine.session import Pair
from drafters.engine.strings import StringSession
from drafters.probs import warp
from drafters.samplers.draft import ABSENT, ROOT, Draft, Sampler, StringProposal, Tree, Verdict, Verifier
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.stop.policy import StopError, StopPolicy, reads_features


@dataclass(frozen=True)
class Decoded:
    """What a decode call produced. All counts are per request, int64 (B,)."""

    tokens: list[Tensor]  # int64 (n,), new tokens only
    accepted: Tensor  # drafted tokens that became output
    verified: Tensor  # drafted positions tested: accepted ones and, per round, the first rejected one
    drafted: Tensor  # drafted tokens, those behind a rejection included
    target_forwards: Tensor  # verification forwards; the prompt's is not counted
    rounds: list[list[tuple[int, int, int]]]  # per request, per target forward: (drafted, verified, accepted)


class Executor(Protocol):
    """A way to run a sampler on a pair."""

    def decode(
        self, pair: Pair, sampler: Sampler, stop: StopPolicy, prompts: Sequence[Tensor], coins: Coins, limits: Limits
    ) -> Decoded:
        """Continue each prompt, int64 (n,), n >= 1."""
        ...


@torch.inference_mode()
def autoregressive(
    pair: Pair, prompts: Sequence[Tensor], coins: Coins, limits: Limits, verifier: Verifier | None = None
) -> Decoded:
    """Plain decoding: one token per target forward, drawn with position-keyed coins.

    `verifier`: who draws it, None for ExactMatch. With a positional one the tokens are those of its speculative decoding.
    """
    return _decode(pair, None, verifier or ExactMatch(), None, prompts, coins, limits)


@torch.inference_mode()
def speculative(
    pair: Pair, sampler: Sampler, stop: StopPolicy, prompts: Sequence[Tensor], coins: Coins, limits: Limits
) -> Decoded:
    """Draft-then-verify decoding whose output has exactly plain decoding's law (Leviathan et al. 2023)."""
    return _decode(pair, sampler, sampler.verifier, stop, prompts, coins, limits)


@dataclass(frozen=True)
class Autoregressive:
    """The baseline executor; sampler and stop policy have no say in it."""

    def decode(
        self, pair: Pair, sampler: Sampler, stop: StopPolicy, prompts: Sequence[Tensor], coins: Coins, limits: Limits
    ) -> Decoded:
        """See Executor."""
        return autoregressive(pair, prompts, coins, limits)


@dataclass(frozen=True)
class Speculative:
    """The draft-then-verify executor."""

    def decode(
        self, pair: Pair, sampler: Sampler, stop: StopPolicy, prompts: Sequence[Tensor], coins: Coins, limits: Limits
    ) -> Decoded:
        """See Executor."""
        return speculative(pair, sampler, stop, prompts, coins, limits)


def _decode(
    pair: Pair,
    sampler: Sampler | None,
    verifier: Verifier,
    stop: StopPolicy | None,
    prompts: Sequence[Tensor],
    coins: Coins,
    limits: Limits,
) -> Decoded:
    rows = [Row(tokens=prompt.tolist(), prompt=prompt.shape[0]) for prompt in prompts]
    _check(pair, rows, limits)
    longest = 0 if stop is None or sampler is None else _most_nodes(sampler, stop)
    target = pair.open_target(len(rows), max(row.prompt for row in rows) + limits.max_new_tokens + longest + 1)
    _prefill(target, [row.tokens for row in rows])
    drafter = None
    if sampler is not None and stop is not None:
        check_stop(sampler, stop)
        drafter = _open_drafter(pair, rows, limits, longest)
        stop.reset(torch.arange(len(rows)))
    while not all(row.finished for row in rows):
        _round(pair, target, drafter, sampler, verifier, stop, rows, coins, limits)
    counts = torch.tensor([[sum(column) for column in zip(*row.rounds, strict=True)] for row in rows])  # (B, 3)
    return Decoded(
        tokens=[torch.tensor(row.tokens[row.prompt :], dtype=torch.int64) for row in rows],
        drafted=counts[:, 0],
        verified=counts[:, 1],
        accepted=counts[:, 2],
        target_forwards=torch.tensor([len(row.rounds) for row in rows]),
        rounds=[row.rounds for row in rows],
    )


def check_stop(sampler: Sampler, stop: StopPolicy) -> None:
    """Raise StopError for a policy that reads laws along a chain where the sampler drafts a tree or text.

    A tree that grew by what its own siblings are would not be one that tree verifiers are proved for.
    """
    if reads_features(stop) and (isinstance(sampler.shape, Tree) or isinstance(sampler.proposal, StringProposal)):
        raise StopError(
            f"stop policy {type(stop).__name__} reads the law of every drafted token of a chain, and sampler {sampler.name!r} "
            "drafts a tree or text: choose stop=static or stop=heuristic, or a sampler of token chains"
        )


def _check(pair: Pair, rows: list[Row], limits: Limits) -> None:
    if not rows:
        raise ValueError("prompts: expected at least one, got none.")
    limit = pair.context[0]
    for number, row in enumerate(rows):
        if row.prompt < 1:
            raise ValueError(f"prompt {number} is empty; decoding needs at least one token, e.g. the BOS token.")
        if limit is not None and row.prompt + limits.max_new_tokens > limit:
            raise ValueError(
                f"prompt {number}: {row.prompt} prompt tokens + {limits.max_new_tokens} new ones exceed the target's context of {limit}; "
                "shorten the prompt or lower max_new_tokens."
            )


def _prefill(model: Model, streams: list[list[int]]) -> None:
    """Feed all but the last token of each row: the last one is the root of the first round, so no logits are needed."""
    if max(len(stream) for stream in streams) > 1:
        tokens, counts = padded([stream[:-1] for stream in streams], torch.device("cpu"))
        model.extend(tokens, counts=counts, logits=False)


def _open_drafter(pair: Pair, rows: list[Row], limits: Limits, longest: int) -> Model:
    limit = pair.context[1]
    for row in rows:
        row.stream = list(pair.prompt(row.tokens))
        if limit is not None and len(row.stream) > limit:
            row.stop_drafting()
        row.fed = len(row.stream) - 1
    need = max(len(row.stream) for row in rows) + limits.max_new_tokens * pair.expansion + longest + 1
    drafter = pair.open_drafter(len(rows), need if limit is None else min(need, limit))
    _prefill(drafter, [row.stream for row in rows])
    return drafter


def _round(
    pair: Pair,
    target: Model,
    drafter: Model | None,
    sampler: Sampler | None,
    verifier: Verifier,
    stop: StopPolicy | None,
    rows: list[Row],
    coins: Coins,
    limits: Limits,
) -> None:
    committed = torch.tensor([len(row.tokens) for row in rows], device=pair.device)
    position = torch.tensor([-1 if row.finished else len(row.tokens) for row in rows], device=pair.device)
    key = Key(position=position, round=committed, purpose="draft")
    draft = empty_draft(len(rows), pair.device)
    if drafter is not None and sampler is not None and stop is not None:
        draft, settle_drafter = _propose(pair, drafter, sampler, stop, rows, coins, key, limits)

    roots = torch.tensor([[row.tokens[-1]] for row in rows], device=pair.device)
    parents = _slots_above(draft, committed) if sampler is not None and isinstance(sampler.shape, Tree) else None
    logits = target.extend(torch.cat([roots, draft.tokens.clamp(min=0)], 1), parents)  # (B, M + 1, V)
    assert logits is not None
    verdict = verifier.verify(warp(logits, limits.sampling), draft, coins, key)
    paths, above, fresh = _to_host(draft, verdict)
    accepted = [len(path) for path in paths]

    # The root's slot is the last committed token's, node m's is m + 1 behind it; a finished row stays where it is.
    ends = [len(row.tokens) for row in rows]
    target.keep(
        [
            [end - 2] if row.finished else [end - 1, *(end + node for node in path)]
            for row, end, path in zip(rows, ends, paths, strict=True)
        ]
    )
    emitted: list[list[int]] = []
    for row, new, path, parents_of in zip(rows, fresh, paths, above, strict=True):
        if row.finished:
            emitted.append([])
            continue
        kept = row.commit(new, limits, pair.eos)
        used = min(len(path), kept)
        refused = (path[-1] if path else ROOT) in parents_of  # where the path ends, a child was tested and failed
        present = sum(parent > ABSENT for parent in parents_of)
        row.rounds.append((present, used + (refused and kept > len(path)), used))
        emitted.append(new[:kept])
    if drafter is not None and stop is not None:
        settle_drafter(paths, emitted)
        active = [number for number, new in enumerate(emitted) if new]
        took = torch.tensor(active)
        stop.on_verified(torch.tensor(accepted)[took], torch.tensor([_depth(parents) for parents in above])[took], took)


def _propose(
    pair: Pair,
    drafter: Model,
    sampler: Sampler,
    stop: StopPolicy,
    rows: list[Row],
    coins: Coins,
    key: Key,
    limits: Limits,
) -> tuple[Draft, Callable[[list[list[int]], list[list[int]]], None]]:
    """A draft, and what rolls the drafter back once the accepted paths and the committed tokens are known."""
    room = _rooms(drafter, rows, limits, _most_nodes(sampler, stop))
    if isinstance(sampler.proposal, StringProposal):
        session = StringSession(sampler.proposal, drafter, rows, stop, limits.drafting, room, key, pair.eos)
        return session.propose(coins), lambda paths, fresh: session.settle(fresh)
    propose = propose_tree if isinstance(sampler.shape, Tree) else propose_chain
    proposed = propose(drafter, pair, rows, sampler, stop, limits.drafting, room, coins, key)
    return proposed.draft, lambda paths, fresh: settle(drafter, pair, rows, proposed.fed, paths, fresh)


def _most_nodes(sampler: Sampler, stop: StopPolicy) -> int:
    """Nodes of the largest draft a round can have, or the slots that drafting it takes."""
    if isinstance(sampler.proposal, StringProposal):
        return max(stop.max_length, sampler.proposal.slots)
    if not isinstance(sampler.shape, Tree):
        return stop.max_length
    return sum(map(sum, sampler.shape.levels[: stop.max_length]))


def _slots_above(draft: Draft, committed: Tensor) -> Tensor:
    """The target's slot that each of root and nodes follows: int64 (B, M + 1)."""
    root = committed.unsqueeze(-1) - 1
    above = torch.where(draft.parent > ROOT, root + 1 + draft.parent, root)
    return torch.cat([root - 1, above], 1)


def _rooms(drafter: Model, rows: list[Row], limits: Limits, nodes: int) -> list[int]:
    """Tokens each row may draft; a row whose drafter context is full stops drafting and frees its place in the cache."""
    for number, row in enumerate(rows):
        if row.drafting and len(row.stream) + nodes > drafter.capacity:
            row.stop_drafting()
            row.fed = 1
            drafter.keep([[0] if other == number else [] for other in range(len(rows))])
    return [row.room(limits) for row in rows]


def _depth(parents: list[int]) -> int:
    """Levels of one row's tree."""
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent == ABSENT else 1 if parent == ROOT else depths[parent] + 1)
    return max(depths, default=0)


def _to_host(draft: Draft, verdict: Verdict) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """One transfer per round: accepted paths, the drafted nodes' parents, and the tokens each row gained."""
    nodes, width = draft.tokens.shape[1], verdict.nodes.shape[1]
    spelled = draft.tokens.gather(1, verdict.nodes.clamp(min=0)) if draft.tokens.shape[1] else verdict.nodes
    counts = torch.stack([verdict.accepted, verdict.next_token], 1)
    table = torch.cat([counts, draft.parent, verdict.nodes, spelled], 1).tolist()
    begin, tokens = 2 + nodes, 2 + nodes + width
    paths = [row[begin : begin + row[0]] for row in table]
    fresh = [[*row[tokens : tokens + row[0]], row[1]] for row in table]
    return paths, [row[2:begin] for row in table], fresh
