"""What is stored of a measurement: counts and seconds per prompt, never ids or text."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from drafters.engine.decode import Decoded

AUTOREGRESSIVE, SPECULATIVE, DISTRIBUTED = "autoregressive", "speculative", "distributed"
TRANSFORMERS = "transformers"  # executor of rows that call its `generate`; their preset says how
UNPRUNED, PACKAGE = "unpruned", "package"  # names of the pair's own drafter and of the packaged one
TAILED = "tail"  # the packaged one with its low-rank tail
IDENTICAL, TIE, DIFFERENT = "identical", "tie", "different"


@dataclass(frozen=True)
class Configuration:
    """What one row of the report is measured with. Plain decoding has no drafter, sampler, stop policy and kept tokens."""

    drafter: str | None  # UNPRUNED, PACKAGE or the name of a further one
    sampler: str | None  # a name of the catalog
    executor: str
    stop: str | None
    temperature: float
    kept: int | None  # D: rows of the drafter's head
    preset: str | None = None  # the file of conf/sampler: several may be of one sampler


@dataclass(frozen=True)
class Record:
    """One prompt continued once (B = 1)."""

    configuration: Configuration
    prompt: str  # its id in the suite
    repeat: int
    prompt_tokens: int
    tokens: int  # new ones
    drafted: int
    verified: int
    accepted: int
    target_forwards: int
    rounds: tuple[tuple[int, int, int, int], ...]  # (drafted, verified, accepted, how many such rounds), ascending
    seconds: float  # prompt included
    greedy: str | None  # temperature 0: IDENTICAL to plain decoding, a TIE or DIFFERENT; None: nothing to compare

    def to_json(self) -> str:
        """One line, the configuration's fields first."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name != "configuration"}
        return json.dumps({**dataclasses.asdict(self.configuration), **fields}, allow_nan=False)


def record(
    configuration: Configuration,
    decoded: Decoded,
    *,
    prompt: str,
    prompt_tokens: int,
    repeat: int,
    seconds: float,
    greedy: str | None,
) -> Record:
    """The record of a decode call with one row."""
    return Record(
        configuration=configuration,
        prompt=prompt,
        repeat=repeat,
        prompt_tokens=prompt_tokens,
        tokens=len(decoded.tokens[0]),
        drafted=int(decoded.drafted[0]),
        verified=int(decoded.verified[0]),
        accepted=int(decoded.accepted[0]),
        target_forwards=int(decoded.target_forwards[0]),
        rounds=histogram(decoded.rounds[0]),
        seconds=seconds,
        greedy=greedy,
    )


def histogram(rounds: Iterable[tuple[int, int, int]]) -> tuple[tuple[int, int, int, int], ...]:
    """Rounds (drafted, verified, accepted) with how often each occurred, ascending."""
    return tuple((*kind, count) for kind, count in sorted(Counter(map(tuple, rounds)).items()))  # type: ignore[misc]


def parse(line: str) -> Record:
    """The record that `Record.to_json` wrote. Raises KeyError or TypeError for a line that is none."""
    fields: dict[str, Any] = json.loads(line)
    own = {item.name: fields.pop(item.name) for item in dataclasses.fields(Configuration)}
    fields["rounds"] = tuple(tuple(kind) for kind in fields["rounds"])
    return Record(configuration=Configuration(**own), **fields)
