"""How many drafts per verification and how many target servers: the bound of Timor et al. 2024 (arXiv 2405.14105), section 3."""

from __future__ import annotations

import math
from dataclasses import dataclass

from drafters.errors import DraftersError


class PlanError(DraftersError):
    """A lookahead or a number of servers that cannot work; the message says what would."""


@dataclass(frozen=True)
class Plan:
    """Lookahead k and servers SP. Raises PlanError for values below 1."""

    lookahead: int = 5
    servers: int = 3
    resubmit: bool = True  # rule R, see Coordinator; off only to show what it is for

    def __post_init__(self) -> None:
        for name, value in (("lookahead", self.lookahead), ("servers", self.servers)):
            if value < 1:
                raise PlanError(f"executor.{name}={value}: expected a whole number from 1")

    @property
    def ahead(self) -> int:
        """How far the drafter may run ahead of the last committed token: a block per server, and one being drafted."""
        return (self.servers + 1) * self.lookahead


def servers_needed(t: float, d: float, lookahead: int) -> int:
    """ceil(t / (k d)): servers that are busy at once while nothing is rejected. t, d: seconds of a forward."""
    # A ratio that is whole but for rounding, as 0.3 / (3 * 0.1), needs no further server.
    return max(1, math.ceil(t / (lookahead * d) - 1e-9))
