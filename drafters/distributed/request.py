"""What servers and drafter are told of a request before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from drafters.engine.limits import Limits
from drafters.rng.coins import Coins
from drafters.samplers.draft import Sampler
from drafters.stop.policy import StopPolicy


@dataclass(frozen=True)
class Request:
    """What servers and drafter must know of a request before it begins."""

    prompt: tuple[int, ...]
    sampler: Sampler
    stop: StopPolicy  # where blocks end
    coins: Coins  # of this request alone (B = 1)
    limits: Limits

    @property
    def end(self) -> int:
        """The position that no token reaches."""
        return len(self.prompt) + self.limits.max_new_tokens
