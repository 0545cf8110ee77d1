"""Lanes count by writer, keep their own clocks, and take turns fairly; what is said of them."""

import pytest
import torch

from drafters.engine.rounds import Round, Writer
from eval.run.records import DIFFERENT, TIE
from pipeline.watch.lane import Lane, turns
from pipeline.watch.said import equality, legend, marked, outcome, status


class Letters:
    """Transcript of a tokenizer whose token n is the n-th letter."""

    def add(self, token):
        return chr(97 + token)

    def rest(self):
        return ""


def lane(title, rounds, prompt=0.0):
    """A lane of these rounds, (tokens, counts, seconds) each; reading its prompt takes so many seconds."""
    now = [0.0]

    def begin():
        now[0] += prompt
        return iter([Round.of(list(tokens), counts, seconds) for tokens, counts, seconds in rounds])

    return Lane(title, begin, Letters(), lambda: now[0])


def finished(*arguments):
    one = lane(*arguments)
    while not one.finished:
        one.step()
    return one


def test_counts_and_clock_of_a_lane():
    one = finished("d", [((0, 1, 2), (4, 3, 2), 0.5), ((3, 4), (1, 1, 1), 0.25), ((5,), (0, 0, 0), 0.25)], 1.0)
    assert one.tokens == [0, 1, 2, 3, 4, 5]
    assert (one.prompt_seconds, one.seconds, one.speed) == (1.0, 2.0, 3.0)
    assert dict(one.who) == {Writer.ACCEPTED: 3, Writer.CORRECTION: 1, Writer.BONUS: 1, Writer.PLAIN: 1}
    assert one.text[2:5] == [("c", Writer.CORRECTION), ("d", Writer.ACCEPTED), ("e", Writer.BONUS)]
    assert status(one) == (
        "6 tokens | 2.00 s | 3.0 tokens/s | acceptance 0.75 | 1.7 drafts a round (last 0) | 2.00 tokens a forward"
    )
    assert [text for text, _ in legend(one)] == ["accepted draft 3", "correction 1", "bonus 1", "plain 1"]
    assert not list(legend(finished("p", [((1,), (0, 0, 0), 1.0)])))


def test_the_lane_whose_clock_is_behind_goes_next():
    slow = lane("slow", [((1, 2, 3), (2, 2, 2), 0.5)] * 8)
    fast = lane("fast", [((1,), (0, 0, 0), 0.2)] * 30)
    order, apart = [], []
    for stepped in turns([slow, fast]):
        order.append(stepped.title)
        if not (slow.finished or fast.finished):
            apart.append(abs(slow.seconds - fast.seconds))
    assert max(apart) <= 0.5 + 1e-9  # never more than one round of each other
    assert order.count("slow") == 1 + 8 + 1  # the prompt, its rounds, and the end
    assert order.count("fast") == 1 + 30 + 1
    assert len(fast.tokens) == 30


def test_a_clock_stands_while_another_lane_works():
    one, other = lane("a", [((1,), (0, 0, 0), 1.0)] * 3), lane("b", [((1,), (0, 0, 0), 7.0)] * 3)
    list(turns([one, other]))
    assert (one.seconds, other.seconds) == (3.0, 21.0)
    assert outcome(one, other) == "7.00x plain decoding's speed, by each one's own clock"


def plain(ids, done=True):
    one = lane("plain", [((token,), (0, 0, 0), 1.0) for token in ids])
    for _ in range(len(ids) + 1 + done):
        one.step()
    return one


@pytest.mark.parametrize(
    ("ours", "theirs", "coupled", "verdict", "said"),
    [
        (plain([1, 2]), plain([1, 2]), True, None, "the same text, token for token"),
        (plain([1, 2], False), plain([1, 2], False), True, None, "the same text, token for token, so far"),
        (plain([1, 2, 3], False), plain([1, 2], False), True, None, "the same text as far as both have come, 2 tokens"),
        (plain([1, 2, 3]), plain([1, 3, 3]), True, TIE, "other text from token 2 on, where two tokens are equally"),
        (plain([1, 2, 3]), plain([1, 3, 3]), True, DIFFERENT, "OTHER TEXT FROM TOKEN 2 ON, and no tie explains it"),
        (plain([1, 2, 3]), plain([1, 2]), True, DIFFERENT, "OTHER TEXT FROM TOKEN 3 ON"),  # one ended too early
        (plain([1, 2, 3]), plain([1, 3, 3]), True, None, "other text from token 2 on: two tokens closer than rounding"),
        (plain([1, 2, 3]), plain([2, 2, 3]), False, None, "other text from token 1 on: two samples of one"),
    ],
)
def test_whether_two_texts_are_equal(ours, theirs, coupled, verdict, said):
    assert equality(ours, theirs, coupled, verdict).startswith(said)


def test_marks():
    assert [marked("x", who) for who in Writer] == ["x", "‹x›", "«x»", "x"]  # noqa: RUF001
    assert torch.equal(Round.of([1], (0, 0, 0), 0.0).tokens, torch.tensor([1]))
