"""Lines of progress: when they come, what they say, and that finished work of an earlier run is no speed."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from eval.run.progress import EVERY, Lines, Tally, duration, ticking


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


def made(total: float | None, kind: Callable[..., Any] = Lines, **more: Any) -> tuple[Any, Clock, list[str]]:
    clock, said = Clock(), []
    return kind("Reading", total, said.append, clock, **more), clock, said


def work(lines: Lines, clock: Clock, seconds: int, per_second: float) -> None:
    """So many seconds at a steady pace, with a look every second."""
    for _ in range(seconds):
        clock.now += 1
        lines.advance(per_second)
        lines.tick()


def test_what_ends_within_the_time_says_nothing() -> None:
    lines, clock, said = made(100)
    work(lines, clock, int(EVERY) - 1, 7)
    lines.close()
    assert said == []


def check_lines(kind: Callable[..., Any]) -> None:
    lines, clock, said = made(400, kind)
    work(lines, clock, 40, 10)
    lines.close()
    assert said == [
        "Reading: 150 of 400, 15 s so far, about 25 s left",
        "Reading: 300 of 400, 30 s so far, about 10 s left",
        "Reading: 400 of 400, 40 s in all",
    ]


def test_a_line_every_fifteen_seconds_and_a_last_one() -> None:
    check_lines(Lines)


class NeverClosed(Lines):
    """Planted bug: the last line is never printed."""

    def close(self) -> None:
        pass


def check_resumed(kind: Callable[..., Any]) -> None:
    lines, clock, said = made(1000, kind)
    lines.advance(880, kept=True)  # in no time: an earlier run had done it
    work(lines, clock, 30, 1)
    assert said == [
        "Reading: 895 of 1,000, 15 s so far, about 2 min left",
        "Reading: 910 of 1,000, 30 s so far, about 90 s left",
    ]


def test_what_an_earlier_run_had_done_is_no_speed() -> None:
    check_resumed(Lines)
    tally = Tally(100, 0.0)
    tally.advance(60, kept=True)
    assert tally.left(15.0) is None  # nothing of its own yet
    tally.advance(10)
    assert tally.left(30.0) == pytest.approx(30 * 30 / 10)
    tally.advance(20, kept=True)  # found later on
    assert tally.left(45.0) == pytest.approx(10 * 45 / 10)


class CountsAll(Lines):
    """Planted bug: resumed work counts as speed."""

    def advance(self, n: float = 1, *, kept: bool = False) -> None:
        super().advance(n)


@pytest.mark.parametrize(("check", "bug"), [(check_lines, NeverClosed), (check_resumed, CountsAll)])
def test_planted_bugs_are_found(check: Callable[..., None], bug: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError):
        check(bug)


def test_lines_come_while_nothing_gets_done_and_promise_nothing() -> None:
    lines, clock, said = made(8)
    work(lines, clock, 31, 0)
    assert said == ["Reading: 0 of 8, 15 s so far", "Reading: 0 of 8, 30 s so far"]


def test_the_rate_follows_a_change_of_pace() -> None:
    lines, clock, said = made(10_000)
    work(lines, clock, 300, 10)
    work(lines, clock, 600, 1)  # the latter half of the time, all of it slow
    assert said[-1] == "Reading: 3,600 of 10,000, 15 min so far, about 1 h 47 min left"


def test_a_step_longer_than_the_window_is_judged_by_the_whole() -> None:
    lines, clock, said = made(10)
    for _ in range(2):
        clock.now += 300
        lines.advance(1)
        lines.tick()
    work(lines, clock, 795, 0)
    # At 1395 s nothing was done in the latter half: 8 more at 1395 / 2 s each.
    assert said[-1] == "Reading: 2 of 10, 23 min so far, about 93 min left"


def test_no_time_is_left_where_more_is_done_than_was_expected_or_nobody_knows_how_much_there_is() -> None:
    lines, clock, said = made(20)
    work(lines, clock, 15, 2)
    assert said == ["Reading: 30, 15 s so far"]
    lines, clock, said = made(None)
    work(lines, clock, 15, 2)
    assert said == ["Reading: 30, 15 s so far"]
    lines, clock, said = made(None)
    work(lines, clock, 15, 0)
    assert said == ["Reading: 15 s so far"]


def test_no_more_time_is_promised_than_the_work_may_take() -> None:
    lines, clock, said = made(1000, most=20.0)
    work(lines, clock, 30, 10)
    assert said == [
        "Reading: 150 of 1,000, 15 s so far, about 5 s left", "Reading: 300 of 1,000, 30 s so far, about 0 s left",
    ]  # fmt: skip


def test_units() -> None:
    lines, clock, said = made(40_000_000, unit="bytes")
    work(lines, clock, 15, 1_000_000)
    lines.close()
    assert said == ["Reading: 15 of 40 MB, 15 s so far, about 25 s left", "Reading: 15 of 40 MB, 15 s in all"]
    lines, clock, said = made(30, unit="windows")
    work(lines, clock, 15, 1)
    assert said == ["Reading: 15 of 30 windows, 15 s so far, about 15 s left"]


def test_who_is_quiet_waits_anew_for_its_turn() -> None:
    busy = [True]
    lines, clock, said = made(None, quiet=lambda: busy[0], last=False)
    work(lines, clock, 40, 0)
    busy[0] = False
    work(lines, clock, 14, 0)
    assert said == []
    work(lines, clock, 1, 0)
    lines.close()
    assert said == ["Reading: 55 s so far"]


def test_a_thread_looks_at_the_clock_while_the_block_runs() -> None:
    lines, clock, said = made(4)
    seen = threading.Event()

    def wait(seconds: float) -> bool:
        if len(said) == 3:
            seen.set()
            return True
        return clock.wait(seconds)

    before = threading.active_count()
    with ticking(lines, wait):
        assert seen.wait(60)
        lines.advance(4)
    assert said == [f"Reading: 0 of 4, {n} s so far" for n in (15, 30, 45)] + ["Reading: 4 of 4, 45 s in all"]
    assert threading.active_count() == before


def test_a_block_that_fails_says_no_last_line() -> None:
    lines, clock, said = made(4)
    work(lines, clock, 15, 0)
    with pytest.raises(RuntimeError), ticking(lines):
        raise RuntimeError
    assert len(said) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (5_900, "98 min"),
        (6_000, "1 h 40 min"),
        (200_000, "2 d 8 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
