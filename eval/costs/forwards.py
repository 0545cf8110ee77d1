"""Seconds of a target forward t(n), of a drafter forward d, and c = d / t, through the engine's own models and caches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drafters.engine.cache.cached_model import Model
from drafters.engine.transformers_pair import Pair
from eval.costs.timing import alternate

WARM_UP = 3
CONTEXT = 128  # tokens before the measured ones


@dataclass(frozen=True)
class Timing:
    """Seconds of one operation: median and interquartile range over its runs."""

    median: float
    low: float  # 25 %
    high: float  # 75 %
    runs: int


@dataclass(frozen=True)
class Forward:
    """One forward to time: `n` tokens on top of a filled cache, rolled back afterwards."""

    model: Model
    tokens: Tensor  # int64 (1, n)
    context: int  # slots in use before

    def run(self) -> None:
        """Feed the tokens; the clock measures this call."""
        self.model.extend(self.tokens)

    def undo(self) -> None:
        """Roll back to the context."""
        self.model.keep([[self.context - 1]])


@dataclass(frozen=True)
class Costs:
    """Timings of a pair on this device, B = 1."""

    target: Mapping[int, Timing]  # n -> t(n), n tokens in one forward
    drafters: Mapping[str, Timing]  # name -> d, one token
    context: int
    wide: Mapping[str, Mapping[int, Timing]] = field(default_factory=dict)  # name -> n -> d(n), for levels of trees

    @property
    def t(self) -> float:
        """Seconds of a target forward of one token."""
        return self.target[1].median

    def speedup(self, drafter: str, tokens_per_forward: float, drafted_per_forward: float) -> float:
        """Speed-up over plain decoding if forwards were all the work: emitted * t(1) / (g * d + t(g + 1)).

        Leviathan et al. 2023 (arXiv 2211.17192) with the measured t(n) instead of t(n) = t(1), linear between the
        measured n.
        """
        verify = self.verify(drafted_per_forward + 1)
        return tokens_per_forward * self.t / (drafted_per_forward * self.drafters[drafter].median + verify)

    def verify(self, tokens: float) -> float:
        """Seconds of a target forward of so many tokens, linear between the measured n and on beyond the last two."""
        return _interpolated({n: timing.median for n, timing in self.target.items()}, tokens)

    def draft(self, drafter: str, tokens: float) -> float:
        """Seconds of a drafter forward of so many tokens; as for one where no others were measured."""
        known = {1: self.drafters[drafter].median} | {n: item.median for n, item in self.wide.get(drafter, {}).items()}
        return _interpolated(known, tokens)


def _interpolated(known: Mapping[int, float], tokens: float) -> float:
    lengths = sorted(known)
    if tokens > lengths[-1] and len(lengths) > 1:
        last, before = lengths[-1], lengths[-2]
        return known[last] + (tokens - last) * max(0.0, (known[last] - known[before]) / (last - before))
    return float(np.interp(tokens, lengths, [known[n] for n in lengths]))


def measure_costs(
    pairs: Mapping[str, Pair],
    prompt: Tensor,
    lengths: Sequence[int] = range(1, 9),
    repeats: int = 30,
    widths: Sequence[int] = (),
    advance: Callable[[], None] = lambda: None,
) -> Costs:
    """Time the target at every length and each drafter at one token and at every width, interleaved.

    Args:
        pairs: name -> pair; they share the target, which is taken from the first.
        prompt: int64 (n,) target ids to fill the caches with, repeated or cut to CONTEXT and the models' contexts.
        lengths: tokens per target forward; 1 is always measured. widths: tokens of a drafter's forwards over a level of a tree.
        advance: told of every repeat, the WARM_UP ones included.
    """
    lengths = sorted({1, *lengths})
    with torch.inference_mode():
        made, context = forwards(pairs, prompt, lengths, widths)
        timings = interleaved(made, repeats, next(iter(pairs.values())).device, advance)
    return Costs(
        target={n: timings["target", n] for n in lengths},
        drafters={name: timings["drafter", name] for name in pairs},
        context=context,
        wide={name: {n: timings[name, n] for n in widths} for name in pairs},
    )


def forwards(
    pairs: Mapping[str, Pair], prompt: Tensor, lengths: Sequence[int], widths: Sequence[int] = ()
) -> tuple[dict[tuple[str, int | str], Forward], int]:
    """The forwards that `measure_costs` times, by ("target", tokens), ("drafter", name) and (name, width), and the tokens before.

    Arguments as there. To be called, and the forwards to be run, in `torch.inference_mode`.
    """
    context = _context(pairs, max(*lengths, *widths, 1))
    ids = prompt.repeat(-(-context // len(prompt)))[:context].tolist()
    target = _filled(next(iter(pairs.values())).open_target(1, context + max(lengths)), ids)
    made: dict[tuple[str, int | str], Forward] = {
        ("target", n): Forward(target, torch.tensor([(ids * n)[:n]]), context) for n in lengths
    }
    for name, pair in pairs.items():
        made["drafter", name] = _drafter_forward(pair, ids)
        made |= {(name, n): _drafter_forward(pair, ids, n) for n in widths}
    return made, context


def drafter_forward(pair: Pair, prompt: Tensor) -> Forward:
    """A drafter forward of one token as `measure_costs` times it; `prompt` as there."""
    context = _context({"drafter": pair}, 1)
    with torch.inference_mode():
        return _drafter_forward(pair, prompt.repeat(-(-context // len(prompt)))[:context].tolist())


def _drafter_forward(pair: Pair, ids: list[int], tokens: int = 1) -> Forward:
    stream = pair.prompt(ids)[: len(ids)]
    more = torch.tensor([(stream * tokens)[:tokens]])
    return Forward(_filled(pair.open_drafter(1, len(stream) + tokens), stream), more, len(stream))


def interleaved(
    forwards: Mapping[Any, Forward], repeats: int, device: torch.device, advance: Callable[[], None] = lambda: None
) -> dict[Any, Timing]:
    """Time every forward `repeats` times in alternating order, after a warm-up; undoing is not timed."""
    runs = {name: forward.run for name, forward in forwards.items()}
    undo = {name: forward.undo for name, forward in forwards.items()}
    seconds = alternate(runs, repeats, device, WARM_UP, least=1, after=undo, advance=advance)
    return {name: _timing(values) for name, values in seconds.items()}


def _timing(seconds: list[float]) -> Timing:
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Timing(float(median), float(low), float(high), len(seconds))


def _context(pairs: Mapping[str, Pair], longest: int) -> int:
    limits = [limit for pair in pairs.values() for limit in pair.context if limit is not None]
    return max(1, min([CONTEXT, *(limit - longest for limit in limits)]))


def _filled(model: Model, ids: list[int]) -> Model:
    model.extend(torch.tensor([ids]), logits=False)
    return model
