"""One way of decoding as it is watched: its text by writers, its counts, and its own clock. Two of them can race."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from drafters.engine.rounds import Round, Writer
from pipeline.watch.transcript import Transcript


@dataclass
class Lane:
    """A decode call in progress. Its clock runs while it reads the prompt and while it computes rounds, and stands otherwise."""

    title: str
    begin: Callable[[], Iterator[Round]]  # reads the prompt
    transcript: Transcript
    clock: Callable[[], float] = perf_counter
    text: list[tuple[str, Writer]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    who: Counter[Writer] = field(default_factory=Counter)
    prompt_seconds: float = 0.0
    seconds: float = 0.0  # the prompt's included
    rounds: int = 0
    drafted: int = 0
    verified: int = 0
    last_drafted: int = 0  # in the last round
    finished: bool = False
    _running: Iterator[Round] | None = None
    _last: Writer = Writer.PLAIN  # of the last token

    def step(self) -> None:
        """Read the prompt, then decode one round with every call; `finished` behind the last one."""
        if self._running is None:
            began = self.clock()
            self._running = self.begin()
            self.prompt_seconds = self.seconds = self.clock() - began
            return
        found = next(self._running, None)
        if found is None:
            self.finished = True
            if rest := self.transcript.rest():
                self.text.append((rest, self._last))
            return
        self._take(found)

    def _take(self, found: Round) -> None:
        self.seconds += found.seconds
        self.rounds += 1
        self.drafted += found.drafted
        self.verified += found.verified
        self.last_drafted = found.drafted
        self.who.update(found.who)
        self._last = found.who[-1]
        ids = found.tokens.tolist()
        self.tokens += ids
        self.text += [
            (text, who) for token, who in zip(ids, found.who, strict=True) if (text := self.transcript.add(token))
        ]

    @property
    def speed(self) -> float:
        """New tokens per second of this lane's clock, reading the prompt included; 0 before the first."""
        return len(self.tokens) / self.seconds if self.seconds else 0.0

    @property
    def acceptance(self) -> float | None:
        """The share of tested drafts that were accepted; None where none was tested."""
        return self.who[Writer.ACCEPTED] / self.verified if self.verified else None


def turns(lanes: Sequence[Lane]) -> Iterator[Lane]:
    """Step the lanes one at a time, always the one whose clock is behind, until all have ended; yield each after its step.

    Where all are still decoding their clocks stay within one round of each other: what disturbs the machine for a while
    disturbs all alike, and what one sees at any moment is how far each had come in the same time.
    """
    while going := [lane for lane in lanes if not lane.finished]:
        lane = min(going, key=lambda each: each.seconds)
        lane.step()
        yield lane
