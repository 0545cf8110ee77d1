"""A pair whose forwards take a given time and no processor: the engine's real executors on any machine, with real clocks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from drafters.distributed.servers.cancel import checkpoint
from eval.distributed.virtual_time import RIGHT, WRONG, coins

LAYERS = 16  # places in a forward where it can be left


class SleepingModel:
    """One request (see drafters.engine.cache.cached_model.Model). `right`: what it says at each position; None: RIGHT always.

    `keep` is the chain's: slots are positions.
    """

    def __init__(self, seconds: float, capacity: int, a: float | None, tokens: int):
        self.seconds, self.capacity, self.lengths = seconds, capacity, [0]
        self._a, self._tokens = a, tokens
        self._says: list[int] | None = None

    def extend(
        self,
        tokens: Tensor,
        parents: Tensor | None = None,
        counts: list[int] | None = None,
        logits: bool = True,
        last: bool = False,
    ) -> Tensor | None:
        """See Model.extend. A prompt (logits off) takes no time: it is one forward for everybody."""
        begin, count = self.lengths[0], tokens.shape[1]
        if begin == 0 and self._a is not None:  # a request's first token names its coins
            self._says = [RIGHT if good else WRONG for good in coins(self._a, self._tokens, int(tokens[0, 0])).tolist()]
        for _ in range(LAYERS if logits else 0):
            checkpoint()
            time.sleep(self.seconds / LAYERS)
        self.lengths[0] = begin + count
        if not logits:
            return None
        said = [RIGHT if self._says is None else self._says[place + 1] for place in range(begin, begin + count)]
        made = torch.nn.functional.one_hot(torch.tensor([said]), 2).double()
        return made[:, -1:] if last else made

    def restart(self, row: int, tokens: list[int]) -> None:
        """Forget the request and feed these tokens, as a prompt, in no time; see `Model.restart`."""
        self.lengths[0] = 0
        self.extend(torch.tensor([tokens]), logits=False)

    def keep(self, slots: list[list[int]]) -> None:
        """Roll back to the last kept slot; see `Model.keep`."""
        if slots[0]:
            self.lengths[0] = slots[0][0] + len(slots[0])


@dataclass(frozen=True)
class SleepingPair:
    """See drafters.engine.transformers_pair.Pair. Seconds t, d; acceptance rate a; a request's prompt is one id, the seed of its coins."""

    t: float
    d: float
    a: float
    tokens: int
    eos: tuple[int, ...] = ()
    context: tuple[int | None, int | None] = (None, None)
    expansion: int = 1

    @property
    def device(self) -> torch.device:
        """The processor, which has nothing to do."""
        return torch.device("cpu")

    def open_target(self, rows: int, capacity: int) -> SleepingModel:
        """A target of t seconds per forward that always says the right token; see `Pair.open_target`."""
        return SleepingModel(self.t, capacity, None, self.tokens)

    def open_drafter(self, rows: int, capacity: int) -> SleepingModel:
        """A drafter of d seconds per forward that is right at rate a; see `Pair.open_drafter`."""
        return SleepingModel(self.d, capacity, self.a, self.tokens)

    def prompt(self, ids: list[int]) -> list[int]:
        """Return the ids unchanged: target and drafter share one tokenizer."""
        return ids

    def feed(self, token: int) -> list[int]:
        """Return the token itself: target and drafter share one tokenizer."""
        return [token]

    def feed_one(self, tokens: Tensor) -> Tensor:
        """Return the tokens (B,) unchanged: target and drafter share one tokenizer."""
        return tokens
