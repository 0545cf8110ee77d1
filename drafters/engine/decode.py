"""The executors: plain autoregressive decoding and speculative decoding, in one process.

A round: draft, one target forward over the last committed token and the drafts, verify, commit, roll both caches back. A round of
zero drafts is a plain target step, so autoregressive decoding is the same loop without a drafter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor

from drafters.engine.cache.cached_model import Model
from drafters.engine.compiled_verification import Verifications
from drafters.engine.drafting.chain import Drafting, empty_draft, propose_chain, rooms, settle
from drafters.engine.drafting.text import StringSession
from drafters.engine.drafting.tree import propose_tree
from drafters.engine.limits import Limits
from drafters.engine.prefill import (
    check_batch,
    check_requests,
    check_stop,
    most_nodes,
    open_drafter,
    open_target,
    refillable,
)
from drafters.engine.requests import Row
from drafters.engine.round_result import depth, slots_above, to_host
from drafters.engine.rounds import Round
from drafters.engine.transformers_pair import Pair
from drafters.probs import warp
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import ABSENT, ROOT, Draft, Sampler, Tree, Verdict, Verifier
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.stop.features import remember
from drafters.stop.policy import StopPolicy

Settle = Callable[[list[list[int]], list[list[int]]], None]  # accepted paths, committed tokens


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
    pair: Pair,
    prompts: Sequence[Tensor],
    coins: Coins,
    limits: Limits,
    verifier: Verifier | None = None,
    batch: int | None = None,
) -> Decoded:
    """Plain decoding: one token per target forward, drawn with position-keyed coins.

    `verifier`: who draws it, None for ExactMatch. With a positional one the tokens are those of its speculative decoding.
    `batch`: see `speculative`.
    """
    return _Run.open(pair, None, verifier or ExactMatch(), None, prompts, coins, limits, batch).finish()


@torch.inference_mode()
def speculative(
    pair: Pair,
    sampler: Sampler,
    stop: StopPolicy,
    prompts: Sequence[Tensor],
    coins: Coins,
    limits: Limits,
    batch: int | None = None,
) -> Decoded:
    """Draft-then-verify decoding whose output has exactly plain decoding's distribution (Leviathan et al. 2023).

    `batch`: at most so many requests at once; the next one takes the place of the first that ends. None: all at once.
    Needs KeyedCoins, by which a request's output is the same alone, in any batch and in any place of it, unless
    rounding decides a token: see `drafters.generate`. Raises RequestError.
    """
    return _Run.open(pair, sampler, sampler.verifier, stop, prompts, coins, limits, batch).finish()


def stream_rounds(
    pair: Pair,
    sampler: Sampler | None,
    stop: StopPolicy | None,
    prompt: Tensor,
    coins: Coins,
    limits: Limits,
    verifier: Verifier | None = None,
) -> Iterator[Round]:
    """The rounds of `speculative` for one prompt as they end; no sampler: plainly, `verifier` as in `autoregressive`.

    The models' caches live as long as the iterator.
    """
    verifier = verifier or ExactMatch() if sampler is None else sampler.verifier
    return _rounds(_Run.open(pair, sampler, verifier, stop, [prompt], coins, limits))


@torch.inference_mode()
def _rounds(run: _Run) -> Iterator[Round]:
    row = run.rows[0]
    while not row.finished:
        before, began = len(row.tokens), perf_counter()
        run.round()
        yield Round.of(row.tokens[before:], row.rounds[-1], perf_counter() - began)


@dataclass(frozen=True)
class Speculative:
    """The executor that drafts, verifies and commits one round after the other in one process."""

    def decode(
        self, pair: Pair, sampler: Sampler, stop: StopPolicy, prompts: Sequence[Tensor], coins: Coins, limits: Limits
    ) -> Decoded:
        """Continue each prompt by speculative decoding; see `speculative`."""
        return speculative(pair, sampler, stop, prompts, coins, limits)


@dataclass
class _Run:
    """A decode call in progress: its requests, the models with their caches, sampler and stop policy."""

    pair: Pair
    rows: list[Row]
    limits: Limits
    given: Coins  # of all requests
    verifier: Verifier
    target: Model
    drafting: Drafting | None  # None: plain decoding
    nodes: int  # of the largest draft
    every: list[Row]  # all requests; `rows` are those in progress
    requests: list[int]  # number of each row's request
    compiled: Verifications
    coins: Coins = field(init=False)  # of the requests in progress

    @staticmethod
    @torch.inference_mode()
    def open(
        pair: Pair,
        sampler: Sampler | None,
        verifier: Verifier,
        stop: StopPolicy | None,
        prompts: Sequence[Tensor],
        coins: Coins,
        limits: Limits,
        batch: int | None = None,
    ) -> _Run:
        """The run of these prompts, each read once by both models; those beyond `batch` wait for a free row."""
        every = [Row(tokens=prompt.tolist(), prompt=prompt.shape[0]) for prompt in prompts]
        check_requests(pair, every, limits)
        size = len(every) if batch is None else check_batch(batch, len(every))
        rows = every[:size]
        nodes = 0 if sampler is None or stop is None else most_nodes(sampler, stop)
        drafting = None
        if sampler is not None and stop is not None:
            check_stop(sampler, stop)
            eos = torch.tensor(pair.eos, dtype=torch.int64, device=pair.device)
            drafter = open_drafter(pair, rows, every, limits, nodes)
            drafting = Drafting(drafter, pair, rows, sampler, stop, limits.drafting, eos)
            stop.reset(torch.arange(size))
        target = open_target(pair, rows, every, limits, nodes)
        compiled = Verifications(target, verifier, limits.sampling)
        run = _Run(pair, rows, limits, coins, verifier, target, drafting, nodes, every, list(range(size)), compiled)
        run.deal()
        return run

    def finish(self) -> Decoded:
        """Round after round until every request has ended."""
        following = len(self.rows)
        while True:
            self.round()
            ended = [slot for slot, row in enumerate(self.rows) if row.finished]
            fresh = ended[: len(self.every) - following]
            for number, slot in enumerate(fresh, following):
                self.seat(slot, number)
            following += len(fresh)
            if fresh:
                self.deal()
            elif len(ended) == len(self.rows):
                return _decoded(self.every)

    def seat(self, slot: int, number: int) -> None:
        """Give a row whose request has ended to the request `number`."""
        row = self.every[number]
        self.rows[slot], self.requests[slot] = row, number
        self.target.restart(slot, row.tokens[:-1])
        if self.drafting is not None:
            self.drafting.drafter.restart(slot, row.stream[:-1])
            self.drafting.stop.reset(torch.tensor([slot]))

    def deal(self) -> None:
        """Give each row the coins of the request that it holds."""
        self.coins = self.given
        if len(self.every) > len(self.rows):
            keyed = refillable(self.given)
            self.coins = keyed.take(keyed.requests[torch.tensor(self.requests, device=keyed.requests.device)])

    def round(self) -> None:
        """Draft, verify, commit, roll both caches back."""
        rows, device = self.rows, self.pair.device
        ends = [len(row.tokens) for row in rows]
        committed = position = torch.tensor(ends, device=device)
        if any(row.finished for row in rows):
            position = torch.tensor([-1 if row.finished else len(row.tokens) for row in rows], device=device)
        key = Key(position=position, round=committed, purpose="draft")
        draft, settle_drafter = self.propose(key)
        verdict = self.verify(draft, key)
        paths, above, fresh = to_host(draft, verdict)

        # The root's slot is the last committed token's, node m's is m + 1 behind it; a finished row stays where it is.
        self.target.keep(
            [
                [end - 2] if row.finished else [end - 1, *(end + node for node in path)]
                for row, end, path in zip(rows, ends, paths, strict=True)
            ]
        )
        emitted = [self.commit(*result) for result in zip(rows, fresh, paths, above, strict=True)]
        settle_drafter(paths, emitted)
        if self.drafting is not None and not self.drafting.stop.constant:
            took = torch.tensor([number for number, new in enumerate(emitted) if new])
            accepted, depths = (
                torch.tensor([measure(x) for x in lists]) for measure, lists in ((len, paths), (depth, above))
            )
            self.drafting.stop.on_verified(accepted[took], depths[took], took)

    def propose(self, key: Key) -> tuple[Draft, Settle]:
        """A draft, and what rolls the drafter back once the accepted paths and the committed tokens are known."""
        drafting = self.drafting
        if drafting is None:
            return empty_draft(len(self.rows), self.pair.device), lambda paths, fresh: None
        room = rooms(drafting, self.limits, self.nodes)
        if drafting.spelled is not None:
            own = drafting.spelled, drafting.drafter, self.rows, drafting.stop, drafting.sampling
            session = StringSession(*own, room, key, self.pair.eos)
            return session.propose(self.coins), lambda paths, fresh: session.settle(fresh)
        propose = propose_tree if isinstance(drafting.sampler.shape, Tree) else propose_chain
        proposed = propose(drafting, room, self.coins, key)
        return proposed.draft, lambda paths, fresh: settle(drafting, proposed.fed, paths, fresh)

    def verify(self, draft: Draft, key: Key) -> Verdict:
        """Run one target forward over the last committed token and the drafts, and the verifier on its result."""
        assert key.round is not None
        roots = torch.tensor([[row.tokens[-1]] for row in self.rows], device=self.pair.device)
        tokens = torch.cat([roots, draft.tokens], 1)  # (B, M + 1)
        tree = self.drafting is not None and isinstance(self.drafting.sampler.shape, Tree)
        found = None if tree else self.compiled.verdict(tokens, draft, self.coins, key)
        if found is not None:
            return found
        parents = slots_above(draft, key.round) if tree else None
        logits = self.target.extend(tokens.clamp(min=0), parents)  # (B, M + 1, V)
        assert logits is not None
        return self.verifier.verify(warp(logits, self.limits.sampling), draft, self.coins, key)

    def commit(self, row: Row, new: list[int], path: list[int], above: list[int]) -> list[int]:
        """Append a row's gain and count its round; returns what was appended. `above`: the drafted nodes' parents."""
        if row.finished:
            return []
        kept = row.commit(new, self.limits, self.pair.eos)
        used = min(len(path), kept)
        refused = (path[-1] if path else ROOT) in above  # where the path ends, a child was tested and failed
        present = sum(parent > ABSENT for parent in above)
        rejected = refused and kept > len(path)
        row.rounds.append((present, used + rejected, used))
        row.past = remember(*row.past, float(used), float(rejected))
        return new[:kept]


def _decoded(rows: list[Row]) -> Decoded:
    counts = torch.tensor([[sum(column) for column in zip(*row.rounds, strict=True)] for row in rows])  # (B, 3)
    return Decoded(
        tokens=[torch.tensor(row.tokens[row.prompt :], dtype=torch.int64) for row in rows],
        drafted=counts[:, 0],
        verified=counts[:, 1],
        accepted=counts[:, 2],
        target_forwards=torch.tensor([len(row.rounds) for row in rows]),
        rounds=[row.rounds for row in rows],
    )
