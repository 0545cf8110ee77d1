"""Measures contenders on the same prompts, one request at a time (B = 1: latency).

Configurations take turns on every prompt, in alternating order, so that a machine that slows down or speeds up hits all
of them alike.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.engine.decode import Decoded
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from eval.run.configurations import Contender
from eval.run.greedy_check import GreedyCheck
from eval.run.records import AUTOREGRESSIVE, TRANSFORMERS, Record, record

WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Task:
    """A prompt to continue, with the number that names its coins."""

    number: int  # in the suite's sample; names its coins
    id: str
    ids: Tensor  # int64 (n,)


@dataclass(frozen=True)
class Warps:
    """How distributions are made of logits, the temperature apart."""

    top_k: int = 0
    top_p: float = 1.0
    draft: Sampling | None = None  # the drafter's own way, None for the target's

    def plain(self, temperature: float) -> Sampling:
        """The target's warp at a temperature, as plain decoding applies it."""
        return Sampling(temperature, self.top_k, self.top_p)

    def limits(self, temperature: float, tokens: int) -> Limits:
        """The limits of a run of at most so many new tokens."""
        return Limits(tokens, self.plain(temperature), self.draft)


@dataclass(frozen=True)
class Harness:
    """Everything that the trials of one evaluation share."""

    contenders: Sequence[Contender]
    device: torch.device
    max_new_tokens: int
    seed: int
    check: GreedyCheck
    warps: Warps = field(default_factory=Warps)

    def warm_up(self, task: Task) -> None:
        """Run every contender for a few tokens: first calls allocate, compile and fault memory in."""
        for contender in self.contenders:
            self._run(contender, task, min(WARM_UP_TOKENS, self.max_new_tokens))

    def trial(self, task: Task, repeat: int, on_done: Callable[[], None] = lambda: None) -> list[Record]:
        """All contenders on one prompt: their records in the contenders' order, whatever order they ran in."""
        order = list(range(len(self.contenders)))
        if (task.number + repeat) % 2:
            order.reverse()
        measured: dict[int, tuple[Decoded, float]] = {}
        for index in order:
            measured[index] = self._run(self.contenders[index], task, self.max_new_tokens)
            on_done()
        plain = self._greedy_output(measured)
        return [self._record(index, *measured[index], task, repeat, plain) for index in range(len(self.contenders))]

    def _run(self, contender: Contender, task: Task, max_new_tokens: int) -> tuple[Decoded, float]:
        limits = self.warps.limits(contender.configuration.temperature, max_new_tokens)
        if contender.warp is not None:
            limits = dataclasses.replace(limits, sampling=contender.warp)
        # The same coins in every repeat: it repeats the same work.
        coins = KeyedCoins(self.seed, torch.tensor([task.number], device=self.device))
        synchronise(self.device)
        start = time.perf_counter()
        decoded = contender.decode([task.ids], coins, limits)
        synchronise(self.device)
        return decoded, time.perf_counter() - start

    def _greedy_output(self, measured: dict[int, tuple[Decoded, float]]) -> Tensor | None:
        for index, contender in enumerate(self.contenders):
            configuration = contender.configuration
            if configuration.executor == AUTOREGRESSIVE and configuration.temperature == 0:
                return measured[index][0].tokens[0]
        return None

    def _record(
        self, index: int, decoded: Decoded, seconds: float, task: Task, repeat: int, plain: Tensor | None
    ) -> Record:
        configuration, verdict = self.contenders[index].configuration, None
        checked = configuration.executor not in (AUTOREGRESSIVE, TRANSFORMERS)  # outputs of others prove nothing here
        if plain is not None and configuration.temperature == 0 and checked:
            verdict = self.check.verdict(task.ids, plain, decoded.tokens[0])
        return record(
            configuration,
            decoded,
            prompt=task.id,
            prompt_tokens=len(task.ids),
            repeat=repeat,
            seconds=seconds,
            greedy=verdict,
        )


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
