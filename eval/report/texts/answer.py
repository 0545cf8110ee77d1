"""Answers as report.json holds them: every token with its origin, and the probabilities that both models gave it.

A string below a field is what docs/reference/report_fields.md says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from eval.report.row import Amount, Count, Share

Origin = Literal["accepted", "correction", "bonus", "plain"]
ORIGINS: tuple[Origin, ...] = ("accepted", "correction", "bonus", "plain")
MOST_TOKENS = 128  # of an answer
MOST_ANSWERS = 48
MOST_SPELLED = 256  # characters of a token: longer ones are cut
MOST_ASKED = 600  # characters of a prompt: its end

Spelled = Annotated[str, Field(max_length=MOST_SPELLED)]
Raw = Annotated[str, Field(max_length=2 * MOST_SPELLED, pattern="^[0-9a-f]*$")]


@dataclass(frozen=True, kw_only=True)
class RejectedDraft:
    """A drafted token that the verifier refused."""

    id: Count
    text: Spelled
    raw: Raw | None = None
    p: Share | None = None
    q: Share | None = None
    """of the packaged drafter, which drafted it"""


@dataclass(frozen=True, kw_only=True)
class AnswerToken:
    """A token of an answer: who wrote it, and how likely it was."""

    id: Count
    """in the target's vocabulary"""
    text: Spelled
    """what it adds to the text: the whole characters of which it brings the last byte; empty where it brings none"""
    raw: Raw | None = None
    """its bytes in hexadecimal, where they are not whole characters by themselves"""
    origin: Origin
    """accepted: a draft; correction: the target's own after a rejected draft; bonus: the target's own after drafts that were all
    accepted; plain: the target's own in a round without drafts"""
    sayable: bool
    """the packaged drafter's head has a row for it; without one, only a tail could draft it"""
    p: Share | None = None
    """the target's probability of it, after the tokens before it, at the answer's temperature; of a greedy answer at temperature 1"""
    q: Mapping[str, Share] = field(default_factory=dict)
    """likewise the probability that a draft is this token, by drafter: unpruned, package, tail; where the drafter can be asked"""
    rejected: RejectedDraft | None = None
    """of a correction: the draft in whose place it stands"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was written after one prompt at one temperature."""

    prompt: str
    """its name in the suite"""
    asked: Annotated[str, Field(max_length=MOST_ASKED)]
    """the end of the prompt, as the target reads it"""
    temperature: Amount
    rounds: Count
    """forwards of the target but the one over the prompt"""
    tokens: Annotated[tuple[AnswerToken, ...], Field(max_length=MOST_TOKENS)]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A few answers of the packaged drafter, decoded once more after the timed runs."""

    own: bool
    """the prompts came with this code; others are recorded only where eval.texts asks for it, and `make publish` leaves them out"""
    sampler: str
    """of conf/sampler: plain rejection, as the packaged drafter's vocabulary allows it"""
    stop: str
    answers: Annotated[tuple[Answer, ...], Field(max_length=MOST_ANSWERS)]
