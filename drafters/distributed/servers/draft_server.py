"""The drafter's server: it drafts on after the prefix of the newest order, without waiting for verdicts."""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.distributed.messages import Drafted
from drafters.distributed.request import Request
from drafters.distributed.servers.cached_text import CachedText
from drafters.engine.drafting.chain import draw_children, usable
from drafters.engine.transformers_pair import Pair
from drafters.probs import warp
from drafters.rng.coins import Key
from drafters.stop.features import UNKNOWN, describe, shown_law


class DraftServer:
    """Serves one request at a time; `open` begins it, `begin` says behind which text, `next` drafts one token more.

    The stop policy ends blocks, nothing else: it says when what is drafted shall be verified ("submit early"). It is not told of
    verdicts, which come while later blocks are being drafted.
    """

    def __init__(self, pair: Pair):
        self.pair = pair
        self._request: Request | None = None

    @torch.inference_mode()
    def open(self, request: Request) -> None:
        """Take a request: fill the cache with its prompt."""
        self._request = request
        self._tokens = list(request.prompt)
        # Per token from the prompt's last on: where its ids end
        self._starts = [len(stream := list(self.pair.prompt(self._tokens)))]
        self._stream, self._in_block = stream, 0
        limit = self.pair.context[1]
        self._capacity = len(stream) + request.limits.max_new_tokens * self.pair.expansion + 1
        self._limit = self._capacity if limit is None else min(limit, self._capacity)
        self._text = CachedText(lambda: self.pair.open_drafter(1, self._limit))
        self._text.prefill(stream[: self._limit][:-1])
        request.stop.reset(torch.arange(1))

    def begin(self, tokens: tuple[int, ...]) -> None:
        """Draft behind these tokens, prompt included."""
        prompt = len(self._prompt)
        same = prompt
        while same < min(len(tokens), len(self._tokens)) and tokens[same] == self._tokens[same]:
            same += 1
        del self._tokens[same:], self._starts[same - prompt + 1 :]
        del self._stream[self._starts[-1] :]
        for token in tokens[same:]:
            self._append(token)
        self._in_block = 0

    @property
    def position(self) -> int:
        """The absolute position of the next draft, counted in target tokens."""
        return len(self._tokens)

    @torch.inference_mode()
    def next(self, epoch: int) -> Drafted:
        """Draft the next token; `closed` after a miss or an end token, and where the context is full."""
        request, position = self._opened, len(self._tokens)
        if len(self._stream) > self._limit:
            return Drafted(epoch, position, None, closed=True)
        masked = usable(self._text.read(self._stream, 1)[:, -1], request.sampler)  # (1, D)
        q = warp(masked, request.limits.drafting)
        key = Key(torch.tensor([position], device=q.device), None, "draft")
        law, drawn = draw_children(q, request.sampler, request.coins, key)
        token = int(drawn)
        chance = law[:, max(token, 0)] * (token >= 0)
        boundary = self._ends_block(q, masked, chance)
        ended = token in self.pair.eos and not request.limits.ignore_eos
        if token >= 0:
            self._append(token)
        sent = (q, chance) if request.sampler.verifier.needs_law else None
        return Drafted(epoch, position, token, sent, boundary, closed=token < 0 or ended)

    def _append(self, token: int) -> None:
        self._tokens.append(token)
        self._stream += self.pair.feed(token)
        self._starts.append(len(self._stream))

    def _ends_block(self, q: Tensor, masked: Tensor, chance: Tensor) -> bool:
        """Whether the stop policy would not draft another token behind this one."""
        step, features, stop = torch.tensor([self._in_block], device=q.device), None, self._opened.stop
        if not self._in_block:  # a block begins as a round does; whether there is one is not the policy's to say
            stop.should_continue(None, step)
        described = stop.asks_from
        if described is not None and self._in_block + 1 < described:
            self._in_block += 1
            return False
        if described is not None:
            sampling = self._opened.limits.drafting
            shown = shown_law(q, masked, sampling)
            likely = shown.amax(-1) if sampling.greedy else chance
            streak, recent = (torch.full((1,), value, device=q.device) for value in UNKNOWN)
            place = torch.tensor([len(self._tokens) - len(self._prompt)], device=q.device)
            features = describe(shown, likely, place, (step, streak, recent), sampling.temperature)
        goes_on = bool(stop.should_continue(features, step + 1)) and self._in_block + 1 < stop.max_length
        self._in_block = self._in_block + 1 if goes_on else 0
        return not goes_on

    @property
    def _opened(self) -> Request:
        if self._request is None:
            raise ValueError("open a request first.")
        return self._request

    @property
    def _prompt(self) -> tuple[int, ...]:
        return self._opened.prompt
