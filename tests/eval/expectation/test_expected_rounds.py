"""Expected rounds of texts worked out by hand."""

import numpy as np
import pytest

from eval.expectation.expected_rounds import Followed, expected_rounds


def followed(survival, goes_on=None, limit=None) -> Followed:
    survival = np.array(survival, dtype=float)
    ends = np.ones(len(survival), dtype=bool) if goes_on is None else np.array(goes_on)
    return Followed(survival, ends, len(survival) if limit is None else limit)


def constant(a: float, n: int, longest: int, limit: int | None = None) -> Followed:
    return followed(np.tile(a ** np.arange(longest + 1), (n, 1)), limit=limit)


@pytest.mark.parametrize("a", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("longest", [1, 4])
def test_a_constant_chance_gives_leviathans_tokens_per_forward(a, longest):
    n = 4000
    rounds = expected_rounds([constant(a, n, longest)], longest)
    closed = longest + 1 if a == 1 else (1 - a ** (longest + 1)) / (1 - a)  # arXiv 2211.17192, equation 1
    # The last round is cut: at most one more forward than n / closed, each of at most longest + 1 tokens.
    assert n / closed - 1e-9 <= rounds.target_forwards[0] <= n / closed + 1
    assert rounds.accepted[0] == pytest.approx(n - rounds.target_forwards[0], abs=1e-6)
    assert rounds.by_drafted.sum() == pytest.approx(rounds.target_forwards[0])


def test_without_drafts_it_is_plain_decoding():
    rounds = expected_rounds([constant(0.5, 7, 3)], 0)
    assert (rounds.target_forwards[0], rounds.accepted[0], rounds.verified[0], rounds.drafted[0]) == (7, 0, 0, 0)
    assert rounds.by_drafted.tolist() == [[7.0]]


def test_no_round_drafts_beyond_the_limit():
    rounds = expected_rounds([constant(1.0, 3, 5)], 5)
    assert (rounds.target_forwards[0], rounds.drafted[0], rounds.accepted[0], rounds.verified[0]) == (1, 2, 2, 2)
    assert rounds.by_drafted.tolist() == [[0, 0, 1, 0, 0, 0]]


def test_one_token_needs_one_forward():
    rounds = expected_rounds([constant(1.0, 1, 2)], 2)
    assert (rounds.target_forwards[0], rounds.drafted[0]) == (1, 0)


def test_an_eos_at_once_can_be_drafted_and_nothing_behind_it():
    rounds = expected_rounds([followed([[1, 0.25, 0]], [False], limit=10)], 2)
    assert (rounds.target_forwards[0], rounds.accepted[0], rounds.verified[0]) == (1, 0.25, 1)
    assert rounds.by_drafted.tolist() == [[0, 0.25, 0.75]]  # what was drafted instead may have gone on


def test_two_positions_by_hand():
    # From 0: both accepted .2, one .3, none .5. A round that accepted one, or none, goes on at 2, or 1, in the text of 4.
    survival = [[1, 0.5, 0.2], [1, 0.4, 0.4], [1, 0.6, 0.0], [1, 0.9, 0.0]]
    rounds = expected_rounds([followed(survival, limit=4)], 2)
    one = 0.5
    two = 0.3 + one * 0.6
    three = 0.2 + one * 0.0 + two * 0.4  # from 2 there is room for one draft
    assert rounds.target_forwards[0] == pytest.approx(1 + one + two + three)
    assert rounds.accepted[0] == pytest.approx(0.7 + one * 0.8 + two * 0.6)
    assert rounds.by_drafted[0] == pytest.approx([three, two, 1 + one])


def test_a_drafter_whose_context_is_full_drafts_no_more():
    rounds = expected_rounds([constant(1.0, 9, 3, limit=5)], 3)
    # drafts for tokens 0 to 2 and their round's own, then plain decoding
    assert rounds.accepted[0] == 3
    assert rounds.target_forwards[0] == 1 + 5


def test_texts_of_different_lengths_do_not_touch_each_other():
    texts = [constant(0.5, n, 3) for n in (1, 5, 12)]
    together = expected_rounds(texts, 3)
    alone = [expected_rounds([text], 3) for text in texts]
    assert together.target_forwards == pytest.approx([one.target_forwards[0] for one in alone])
    assert together.by_drafted == pytest.approx(np.concatenate([one.by_drafted for one in alone]))


def test_longer_rounds_than_were_logged_are_refused():
    with pytest.raises(ValueError, match=r"need S\(i, l\) up to l = 4"):
        expected_rounds([constant(0.5, 5, 3)], 4)
