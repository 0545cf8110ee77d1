"""A round of a string-level proposal: the drafter continues each row in its own ids and keeps of them what is committed."""

from __future__ import annotations

from itertools import takewhile

from torch import Tensor

from drafters.engine.cache.cached_model import Model
from drafters.engine.drafting.chain import catch_up
from drafters.engine.requests import Row
from drafters.probs import Sampling, warp
from drafters.rng.coins import Coins, Key
from drafters.samplers.draft import Draft, StringProposal
from drafters.stop.policy import StopPolicy


class StringSession:
    """One round on one drafter (see drafters.samplers.draft.Session)."""

    def __init__(
        self,
        proposal: StringProposal,
        drafter: Model,
        rows: list[Row],
        stop: StopPolicy,
        sampling: Sampling,
        room: list[int],
        key: Key,
        eos: tuple[int, ...],
    ):
        self.key, self.eos = key, eos
        self.room = [min(tokens, stop.max_length) for tokens in room]  # the target's cache has no place for more
        self._proposal, self._drafter, self._rows = proposal, drafter, rows
        self._stop, self._sampling = stop, sampling
        self._logits: Tensor | None = None
        self._fed: list[list[int]] = [[] for _ in rows]

    def propose(self, coins: Coins) -> Draft:
        """Draft the round: target tokens (B, M) by the string-level proposal."""
        return self._proposal.propose(self, coins)

    def committed(self, row: int) -> list[int]:
        """The target ids of a row so far, prompt included; see `Session.committed`."""
        return self._rows[row].tokens

    def wants(self, drafted: Tensor) -> Tensor:
        """Whether the policy wants one more draft, bool (B,); false from its longest round on."""
        return self._stop.should_continue(None, drafted) & (drafted < self._stop.max_length)

    def law(self) -> Tensor:
        """The drafter's warped distribution of the next drafter token, (B, D); see `Session.law`."""
        if self._logits is None:
            self._logits = catch_up(self._drafter, self._rows)
        return warp(self._logits, self._sampling)

    def feed(self, ids: Tensor) -> None:
        """Feed each row one drafter id, int64 (B,), -1 for none; see `Session.feed`."""
        host = ids.tolist()
        logits = self._drafter.extend(ids.clamp(min=0).unsqueeze(-1), counts=[int(i >= 0) for i in host])
        assert logits is not None
        self._logits = logits[:, -1]
        for fed, drafter_id in zip(self._fed, host, strict=True):
            fed.extend([drafter_id] if drafter_id >= 0 else [])

    def settle(self, fresh: list[list[int]]) -> None:
        """After the round: what each row committed becomes its stream, and what of it was fed stays in the cache."""
        kept = []
        for row, fed, tokens in zip(self._rows, self._fed, fresh, strict=True):
            stream = self._proposal.stream(fed, tokens) if row.drafting else []
            common = sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], zip(fed, stream, strict=False)))
            kept.append([row.fed - 1, *range(row.fed, row.fed + common)])
            if self._logits is not None:
                row.fed += common
            row.stream.extend(stream)
        if self._logits is not None:
            self._drafter.keep(kept)
