"""Progress where there is no terminal: a line every 15 s of what is done, of how much, and the time left.

A line comes whether or not the work has got further, since silence is what a reader of a log cannot tell from a hang.
Work that an earlier, killed run had done counts as done and never as speed.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

EVERY = 15.0  # seconds between two lines; what ends sooner says nothing
LEAST_WINDOW = 60.0  # seconds that a rate is taken over at least
Say = Callable[[str], None]


@dataclass
class Tally:
    """How far a piece of work is, and how fast it goes. Times are seconds of any monotonic clock."""

    total: float | None  # None: not known
    start: float
    done: float = 0.0  # `kept` included
    kept: float = 0.0  # done before this process began
    _times: list[float] = field(default_factory=list)  # of the looks so far
    _own: list[float] = field(default_factory=list)  # done by this process at these times

    def advance(self, n: float, kept: bool = False) -> None:
        """Count `n` units more; `kept`: found finished, so that they say nothing about the speed."""
        self.done += n
        self.kept += n if kept else 0.0

    def left(self, now: float) -> float | None:
        """Seconds to go at the rate of the latter half of the time so far, of a minute at least; None: nothing to go by.

        Each call is remembered as a look at `now`, which must not go back.
        """
        own = self.done - self.kept
        self._times.append(now)
        self._own.append(own)
        if self.total is None or own <= 0 or self.done >= self.total or now <= self.start:
            return None
        since = now - max(LEAST_WINDOW, (now - self.start) / 2)
        index = bisect_right(self._times, since) - 1
        begin, before = (self.start, 0.0) if index < 0 else (self._times[index], self._own[index])
        if own <= before:  # one step takes longer than the window
            begin, before = self.start, 0.0
        return (self.total - self.done) * (now - begin) / (own - before)


@dataclass
class Lines:
    """The lines of one piece of work. `tick` says one if it is time, `close` the last if there was any."""

    what: str
    total: float | None
    say: Say
    clock: Callable[[], float] = time.monotonic
    unit: str = ""  # behind the numbers; "bytes" are shown as MB
    quiet: Callable[[], bool] = lambda: False  # someone else speaks at present
    last: bool = True  # say at the end what it came to
    most: float = math.inf  # seconds after which the work ends, done or not
    tally: Tally = field(init=False)
    _since: float = field(init=False)  # nobody has said anything from then on
    _spoke: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._since = self.clock()
        self.tally = Tally(self.total, self._since)

    def advance(self, n: float = 1, *, kept: bool = False) -> None:
        """Count `n` units more, `kept` ones without effect on the speed; see `Tally.advance`."""
        self.tally.advance(n, kept)

    def tick(self) -> None:
        """Say how far it is, if nothing was said for `EVERY` seconds."""
        now = self.clock()
        if self.quiet():
            self._since = now
        if now - self._since < EVERY:
            return
        left = self.tally.left(now)
        self._since, self._spoke = now, True
        passed = now - self.tally.start
        rest = "" if left is None else f", about {duration(max(0.0, min(left, self.most - passed)))} left"
        self.say(f"{self.what}: {self._amount()}{duration(passed)} so far{rest}")

    def close(self) -> None:
        """Say what it came to, if anything was said before."""
        if self.last and self._spoke:
            self.say(f"{self.what}: {self._amount()}{duration(self.clock() - self.tally.start)} in all")

    def _amount(self) -> str:
        if self.total is None and not self.tally.done:
            return ""
        known = self.total is not None and self.tally.done <= self.total  # totals may be estimates
        parts = [self.tally.done, self.total or 0.0] if known else [self.tally.done]
        if self.unit == "bytes":
            return f"{' of '.join(map(megabytes, parts))} MB, "
        return f"{' of '.join(f'{part:,.0f}' for part in parts)}{f' {self.unit}' if self.unit else ''}, "


@contextmanager
def ticking(lines: Lines, wait: Callable[[float], bool] | None = None) -> Iterator[Lines]:
    """Let a thread of this process `tick` while the block runs, and `close` when it ends without an error.

    `wait` sleeps for so many seconds and says whether to stop; None: until the block has ended.
    """
    over = threading.Event()
    pause = wait or over.wait

    def run() -> None:
        while not pause(1.0):  # often enough that lines come within a second of their time
            lines.tick()

    thread = threading.Thread(target=run, daemon=True, name="progress")
    thread.start()
    try:
        yield lines
    finally:
        over.set()
        thread.join()
    lines.close()


def bytes_in_words(size: float) -> str:
    """Bytes in kB where they are less than one MB, else in MB: ``12 kB``, ``1.5 MB``."""
    return f"{size / 1e3:,.0f} kB" if size < 1e6 else f"{megabytes(size)} MB"


def megabytes(size: float) -> str:
    """Bytes as a number of MB: with a tenth where they are few."""
    return f"{size / 1e6:,.1f}" if size < 10e6 else f"{size / 1e6:,.0f}"


def duration(seconds: float) -> str:
    """Seconds as a reader wants them: ``45 s``, ``12 min``, ``3 h 20 min``, ``4 d 2 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min"
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days} d {hours} h"
