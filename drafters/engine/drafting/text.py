"""A round of a string-level proposal: the drafter continues each row in its own ids and keeps of them what is committed."""

from __future__ import annotations

from itertools import takewhile

import torch
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
        """The proposal's draft."""
        return self._proposal.propose(self, coins)

    def committed(self, row: int) -> list[int]:
        """See Session."""
        return self._rows[row].tokens

    def wants(self, drafted: Tensor) -> Tensor:
        """See Session; never more than the policy's longest round."""
        return self._stop.should_continue(None, drafted) & (drafted < self._stop.max_length)

    def law(self) -> Tensor:
        """See Session."""
        if self._logits is None:
            self._logits = catch_up(self._drafter, self._rows)
        return warp(self._logits, self._sampling)

    def feed(self, ids: Tensor) -> None:
        """See Session."""
        host = ids.tolist()
        logits = self._drafter.extend(ids.clamp(min=0).unsqueeze(-1), counts=[int(i >= 0) for i in host])
        assert logits is not None
        self._logits = logits[:, -1]
        for fed, drafter_id in zip(self._fed, host, strict=True):
            fed.extend([drafter_id] if drafter_id >= 0 else [])

    def below(self, paths: list[list[tuple[int, ...]]]) -> list[Tensor]:
        """See Session: one drafter forward over all rows' paths as a tree."""
        assert self._logits is not None  # the row's text has been read
        width = max(map(len, paths))
        self._roll_back()
        if not width:
            return [self._logits.new_zeros(0, self._logits.shape[-1]) for _ in paths]
        tokens, slots = [], []
        for row, own in zip(self._rows, paths, strict=True):
            place = {path: row.fed + index for index, path in enumerate(own)} | {(): row.fed - 1}
            missing = width - len(own)  # filled up with junk that follows the text
            tokens.append([path[-1] for path in own] + [0] * missing)
            slots.append([place[path[:-1]] for path in own] + [row.fed - 1] * missing)
        device = self.key.position.device
        logits = self._drafter.extend(torch.tensor(tokens, device=device), torch.tensor(slots, device=device))
        assert logits is not None
        self._roll_back()
        return [warp(logits[row, : len(own)], self._sampling) for row, own in enumerate(paths)]

    def _roll_back(self) -> None:
        self._fed = [[] for _ in self._rows]
        self._drafter.keep([[row.fed - 1] for row in self._rows])

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
