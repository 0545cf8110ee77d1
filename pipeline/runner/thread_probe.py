"""How fast the pair decodes on different numbers of threads: about a second of forwards on the models themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from omegaconf import DictConfig
from transformers import PreTrainedModel

from drafters.engine.transformers_pair import TransformersPair
from drafters.models.devices import choose_device, choose_dtype
from drafters.models.model_folder import open_model, quiet
from drafters.models.pair import open_checkpoint, pair_settings, vocabulary_size
from eval.costs.forwards import Forward, forwards

DRAFTS = 7  # of the round that is priced: its verification is a forward of 8 tokens
MARGIN = 0.15  # more threads must save at least this share: a busy neighbour costs them far more than it costs one
SECONDS, LEAST, MOST = 1.0, 8, 30  # rounds go on for so long, and are at least and at most so many
PATIENCE, FEWEST = 5.0, 3  # of slow models: so many rounds are enough once so many seconds are over


@dataclass(frozen=True)
class Round:
    """Seconds of one forward each."""

    target: float  # of one token
    verify: float  # the target, of DRAFTS + 1 tokens
    drafter: float  # of one token

    @property
    def whole(self) -> float:
        """A round of decoding, and the plain forward that it is to beat."""
        return self.target + self.verify + DRAFTS * self.drafter


@dataclass(frozen=True)
class Ready:
    """The three forwards, ready to run."""

    target: Forward
    verify: Forward
    drafter: Forward

    def round(self, clock: Callable[[], float]) -> Round:
        """Run and time each once; undoing is not timed."""
        taken = []
        for forward in (self.target, self.verify, self.drafter):
            begin = clock()
            forward.run()
            taken.append(clock() - begin)
            forward.undo()
        return Round(*taken)


def rounds(
    ready: Ready,
    counts: Sequence[int],
    use: Callable[[int], None] = torch.set_num_threads,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, list[Round]]:
    """Rounds on every number of threads in turn, in alternating order, after one that is not counted."""
    found: dict[int, list[Round]] = {n: [] for n in counts}
    begin, number = clock(), -1
    while not _enough(number, clock() - begin):
        for n in counts if number % 2 else counts[::-1]:
            use(n)
            ready.drafter.run()  # the threads are started by the first forward that uses them
            ready.drafter.undo()
            one = ready.round(clock)
            if number >= 0:
                found[n].append(one)
        number += 1
        begin = clock() if number == 0 else begin
    return found


def _enough(number: int, seconds: float) -> bool:
    settled = number >= LEAST and seconds >= SECONDS
    return settled or number >= MOST or (number >= FEWEST and seconds >= PATIENCE)


def choose(found: Mapping[int, Sequence[Round]]) -> int:
    """The number of threads to decode with: the fewest, unless more are clearly faster.

    Clearly: by `MARGIN` in the median over the rounds, which are compared side by side, faster in three of four, and by
    `MARGIN` undisturbed: beside a busy neighbour medians tell who had the luck of the scheduler.

    Args:
        found: threads -> rounds, as many for each, measured in turn; 3 at least.
    """
    best, *more = sorted(found)
    for n in more:
        ratios = [new.whole / old.whole for new, old in zip(found[n], found[best], strict=True)]
        usual = median(ratios) <= 1 - MARGIN and quantiles(ratios, n=4, method="inclusive")[2] < 1
        if usual and undisturbed(found[n]).whole <= (1 - MARGIN) * undisturbed(found[best]).whole:
            best = n
    return best


def typical(found: Sequence[Round]) -> Round:
    """Medians of the three forwards."""
    return _each(found, median)


def undisturbed(found: Sequence[Round]) -> Round:
    """The least time of each of the three forwards: what they take while nothing interrupts them."""
    return _each(found, min)


def _each(found: Sequence[Round], of: Callable[[list[float]], float]) -> Round:
    return Round(*(of([getattr(one, name) for one in found]) for name in ("target", "verify", "drafter")))


def measure(cfg: DictConfig, counts: Sequence[int]) -> dict[int, list[Round]]:
    """Open the pair of ``cfg`` on the CPU and time its `rounds`; the number of threads is then what it was.

    Raises as opening the models does.
    """
    before = torch.get_num_threads()
    try:
        with torch.inference_mode():
            return rounds(_opened(cfg), counts)
    finally:
        torch.set_num_threads(before)


def _opened(cfg: DictConfig) -> Ready:
    settings, where = pair_settings(cfg.pair), choose_device("cpu")
    number = choose_dtype(cfg.dtype, where)
    models: list[PreTrainedModel] = []
    with quiet(always=True):
        for role in ("target", "drafter"):
            checkpoint = open_checkpoint(role, settings)
            models.append(open_model(checkpoint.source, checkpoint.config, number, where))
    pair = TransformersPair(models[0], models[1], ())
    # Any ids will do, of a foreign drafter's vocabulary, too.
    ids = torch.arange(128) % min(vocabulary_size(model.config) for model in models)
    made, _ = forwards({"drafter": pair}, ids, [1, DRAFTS + 1])
    return Ready(made["target", 1], made["target", DRAFTS + 1], made["drafter", "drafter"])
