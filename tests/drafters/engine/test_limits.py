"""When a request ends: by EOS, stop string or length, whichever comes first."""

import pytest

from drafters.engine.limits import Limits
from drafters.probs import Sampling


def letters(ids):
    return "".join(chr(97 + i) for i in ids)


def test_the_first_reason_counts():
    limits = Limits(5, stop_strings=("cd",), text=letters)
    assert limits.cut([0, 1], 2, eos=(9,)) is None
    assert limits.cut([0, 9, 2, 3], 4, eos=(8, 9)) == 2
    assert limits.cut([0, 2, 3, 9], 4, eos=(9,)) == 3
    assert limits.cut([0, 1, 0, 1, 0, 2, 3], 7, eos=(9,)) == 5


def test_a_stop_string_may_begin_in_an_earlier_round():
    limits = Limits(9, stop_strings=("abc",), text=letters)
    assert limits.cut([5, 0, 1, 2, 6], 2, eos=()) == 4


def test_only_fresh_tokens_are_looked_at():
    assert Limits(9).cut([9, 1, 2], 2, eos=(9,)) is None


def test_ignored_eos():
    assert Limits(3, ignore_eos=True).cut([9, 9], 2, eos=(9,)) is None
    assert Limits(2, ignore_eos=True).cut([9, 9], 2, eos=(9,)) == 2


def test_the_drafters_sampling_defaults_to_the_targets():
    assert Limits(1, Sampling(0.5)).drafting == Sampling(0.5)
    assert Limits(1, Sampling(0.5), Sampling(1.0)).drafting == Sampling(1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be >= 1, got 0"),
        ({"stop_strings": ("x",)}, "need `text`"),
        ({"stop_strings": ("",), "text": letters}, "empty string"),
    ],
)
def test_impossible_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Limits(**fields)
