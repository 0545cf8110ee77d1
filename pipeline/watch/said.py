"""What is said of lanes in words: the status line, the legend, and how a race ended."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from drafters.engine.rounds import Writer
from eval.run.greedy_check import GreedyCheck
from eval.run.records import DIFFERENT, TIE
from pipeline.watch.lane import Lane

LABELS = {
    Writer.ACCEPTED: "accepted draft",
    Writer.CORRECTION: "correction",
    Writer.BONUS: "bonus",
    Writer.PLAIN: "plain",
}
MARKS = {Writer.CORRECTION: "‹›", Writer.BONUS: "«»"}  # noqa: RUF001


def marked(text: str, who: Writer) -> str:
    """A piece of text with the signs of its writer around it."""
    return text.join(MARKS[who]) if who in MARKS else text


def status(lane: Lane) -> str:
    """Tokens, seconds and speed of a lane, and of one that drafts: acceptance and draft length."""
    said = [f"{len(lane.tokens)} tokens", f"{lane.seconds:.2f} s", f"{lane.speed:.1f} tokens/s"]
    if lane.acceptance is not None:
        said += [
            f"acceptance {lane.acceptance:.2f}",
            f"{lane.drafted / lane.rounds:.1f} drafts a round (last {lane.last_drafted})",
            f"{len(lane.tokens) / lane.rounds:.2f} tokens a forward",
        ]
    return " | ".join(said)


def legend(lane: Lane) -> Iterator[tuple[str, Writer]]:
    """How many tokens each writer has written; nothing where only one can have."""
    for who, label in LABELS.items() if lane.drafted else ():
        if who is not Writer.PLAIN or lane.who[who]:
            yield f"{label} {lane.who[who]}", who


def outcome(drafting: Lane, plain: Lane) -> str:
    """How a race stands: the speeds' ratio."""
    if not drafting.speed or not plain.speed:
        return "no race: it ended before both had written"
    return f"{drafting.speed / plain.speed:.2f}x plain decoding's speed, by each one's own clock"


def equality(drafting: Lane, plain: Lane, coupled: bool, verdict: str | None) -> str:
    """Whether the texts of a race are equal. `coupled`: they should be; `verdict`: that of `judged`."""
    ended = drafting.finished and plain.finished
    if drafting.tokens == plain.tokens:
        return "the same text, token for token" + ("" if ended else ", so far")
    both = min(len(drafting.tokens), len(plain.tokens))
    pairs = enumerate(zip(drafting.tokens, plain.tokens, strict=False), 1)
    at = next((number for number, (ours, theirs) in pairs if ours != theirs), None)
    if at is None and not ended:
        return f"the same text as far as both have come, {both} tokens"
    place = f"other text from token {both + 1 if at is None else at} on"
    if not coupled:
        return f"{place}: two samples of one distribution (equal with temperature=0 or sampler=exact_match)"
    if verdict == TIE:
        return f"{place}, where two tokens are equally likely: a forward in fp64 finds them within rounding"
    if verdict == DIFFERENT:
        return f"{place.upper()}, and no tie explains it: please report this"
    return f"{place}: two tokens closer than rounding, or an error; dtype=fp32 and a race to its end tell which"


def judged(check: GreedyCheck, prompt: Tensor, drafting: Lane, plain: Lane) -> str | None:
    """`GreedyCheck`'s verdict on two greedy texts; None where they have not ended, or not in a precision that tells."""
    if not (drafting.finished and plain.finished and check.exact):
        return None
    return check.verdict(prompt, *(torch.tensor(lane.tokens, dtype=torch.int64) for lane in (plain, drafting)))
