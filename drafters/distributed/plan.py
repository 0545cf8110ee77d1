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


def smallest_lookahead(t: float, d: float, servers: int) -> int:
    """The least k for which `servers` suffice: k >= t / (SP d). Rejections are found soonest with the least k."""
    return max(1, math.ceil(t / (servers * d) - 1e-9))


def make_plan(t: float, d: float, servers: int | None = None, lookahead: int | None = None, most: int = 7) -> Plan:
    """The plan for measured forwards of t and d seconds.

    What is given is kept: lookahead from the servers, or servers from the lookahead. With neither, `most` servers at most.

    Raises:
        PlanError: both are given, and so few servers would keep verifications waiting; the message names what suffices.
    """
    if not (t > 0 and d > 0):
        raise PlanError(f"expected forwards of more than 0 seconds, got t={t:g}, d={d:g}")
    if lookahead is None:
        wanted = most if servers is None else servers
        found = smallest_lookahead(t, d, wanted)
        return Plan(found, servers_needed(t, d, found) if servers is None else servers)
    needed = servers_needed(t, d, lookahead)
    if servers is not None and servers < needed:
        raise PlanError(
            f"executor.servers={servers}: with executor.lookahead={lookahead}, t={1e3 * t:.3g} ms and d={1e3 * d:.3g} ms, "
            f"{needed} target servers are busy at once; set executor.servers={needed}, or "
            f"executor.lookahead={smallest_lookahead(t, d, servers)}"
        )
    return Plan(lookahead, needed if servers is None else servers)
