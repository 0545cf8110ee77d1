"""Lanes on a terminal, as they are written: coloured text, a status line each, a legend. In a pipe plain text instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from drafters.engine.rounds import Writer
from pipeline.watch.lane import Lane
from pipeline.watch.said import legend, marked, status

# Told apart without colours, too: on NO_COLOR terminals underline and italics are left.
STYLES = {
    Writer.ACCEPTED: "green",
    Writer.CORRECTION: "bold underline red",
    Writer.BONUS: "italic cyan",
    Writer.PLAIN: "",
}
EVERY = 0.08  # seconds between two pictures
WIDE = 100  # columns from which two lanes stand beside each other
GAP = 2  # columns between them
AROUND = 5  # lines that are no text: title, status, legend and the spaces between


def show(console: Console, lanes: Sequence[Lane], stepped: Iterable[Lane], marks: bool) -> bool:
    """Show the lanes while ``stepped`` goes on, and whole at the end. False where the user interrupted it.

    Drawing stands between rounds, so that no lane's clock sees it.
    """
    if not redraws(console):
        return _piped(console, lanes[0], stepped, marks)
    whole, drawn = True, 0.0
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            for _ in stepped:
                if perf_counter() - drawn >= EVERY:
                    live.update(frame(console, lanes, marks, console.height), refresh=True)
                    drawn = perf_counter()
        except KeyboardInterrupt:
            whole = False
        live.update(frame(console, lanes, marks), refresh=False)
    return whole


def redraws(console: Console) -> bool:
    """Whether what is shown can be drawn over: a terminal that is no dumb one."""
    return console.is_terminal and not console.is_dumb_terminal


def _piped(console: Console, lane: Lane, stepped: Iterable[Lane], marks: bool) -> bool:
    """Stream the first lane's text as it is; another runs unseen."""
    whole, shown = True, 0
    try:
        for _ in stepped:
            for text, who in lane.text[shown:]:
                console.out(marked(text, who) if marks else text, end="", highlight=False)
            shown = len(lane.text)
    except KeyboardInterrupt:
        whole = False
    console.out("")
    return whole


def frame(console: Console, lanes: Sequence[Lane], marks: bool, height: int | None = None) -> RenderableType:
    """The picture of lanes at this moment; of texts longer than ``height`` lines allow, the ends."""
    beside = len(lanes) > 1 and console.width >= WIDE
    width = console.width // 2 - GAP if beside else console.width
    room = None if height is None else max(1, (height - 1) // (1 if beside else len(lanes)) - AROUND)
    parts = [_parts(console, lane, marks, width, room) for lane in lanes]
    if not beside:
        return Group(*(part for block in parts for part in block))
    grid = Table.grid(padding=(0, GAP, 0, 0), expand=True)
    for _ in parts:
        grid.add_column(ratio=1)
    for row in zip(*parts, strict=True):
        grid.add_row(*row)
    return grid


def _parts(console: Console, lane: Lane, marks: bool, width: int, room: int | None) -> Sequence[RenderableType]:
    """Title, text, a space, status, legend."""
    lines = written(lane, marks).wrap(console, width)
    shown = lines if room is None else lines[-room:]
    return (
        Text(lane.title, style="bold"),
        Group(*shown),
        Text(),
        Text(status(lane), style="dim"),
        legend_line(lane, marks),
    )


def written(lane: Lane, marks: bool) -> Text:
    """A lane's text in the colours of its writers."""
    text = Text(tab_size=4)
    for piece, who in lane.text:
        text.append(marked(piece, who) if marks else piece, STYLES[who])
    return text


def legend_line(lane: Lane, marks: bool) -> Text:
    """The writers in their own colours, with how many tokens each has written."""
    shown = [Text(marked(label, who) if marks else label, STYLES[who]) for label, who in legend(lane)]
    return Text("  ").join(shown)


def said_in_pipe(lane: Lane, marks: bool) -> list[str]:
    """The summary of a lane as lines of plain text."""
    return [f"{lane.title}: {status(lane)}", *([line] if (line := legend_line(lane, marks).plain) else [])]
