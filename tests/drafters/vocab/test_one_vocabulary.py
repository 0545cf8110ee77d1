"""Two tokenizers are one vocabulary where every id spells the same, whatever it is called and whatever its role."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drafters.vocab.one_vocabulary import counterparts, differences, same_vocabulary
from drafters.vocab.spelling import Spelling

BASE = ["a", "b", "ab", "<s>", "</s>"]


def spelled(tokens: list[str | None], bos=3, eos=4, added=(), silent=()) -> Spelling:
    """A vocabulary; what stands in angle brackets is special unless it is ``added``, None is a hole or padding."""
    text = tuple(
        None if token is None or (token[0] == "<" and i not in added) else token.encode()
        for i, token in enumerate(tokens)
    )
    return Spelling(tuple(tokens), text, frozenset(), bos, eos, frozenset(added), frozenset(silent))


ONE = {
    "the same": (BASE, {}),
    "another end": ([*BASE, "<|end|>"], {"eos": 5}),
    "no opening": (BASE, {"bos": None}),
    "a special renamed": (["a", "b", "ab", "<s>", "<|end_of_text|>"], {}),
    "a padded tail": ([*BASE, None, None], {}),
    "added markers": ([*BASE, None, "<|user|>", "<tool>"], {"added": {7}}),
    "a special that is text elsewhere": ([*BASE[:4], "</s>"], {"added": {4}}),
}
TWO = {
    "other bytes at one id": (["a", "b", "ba", "<s>", "</s>"], {}),
    "one more word": ([*BASE, "abb"], {}),
    "a word in place of a special": (["a", "b", "ab", "<s>", "end"], {}),
    "a word is missing": (["a", "b", None, "<s>", "</s>"], {}),
    "shifted by one": (["<s>", "</s>", "a", "b", "ab"], {"bos": 0, "eos": 1}),
}


@pytest.mark.parametrize("name", ONE)
def test_one(name):
    tokens, more = ONE[name]
    assert same_vocabulary(spelled(BASE), spelled(tokens, **more))
    assert same_vocabulary(spelled(tokens, **more), spelled(BASE))


@pytest.mark.parametrize("name", TWO)
def test_two(name):
    tokens, more = TWO[name]
    assert not same_vocabulary(spelled(BASE), spelled(tokens, **more))
    assert not same_vocabulary(spelled(tokens, **more), spelled(BASE))


@given(st.lists(st.sampled_from(["a", "b", "<s>", "<x>", None]), min_size=1, max_size=6), st.data())
def test_it_is_symmetric_and_padding_changes_nothing(tokens, data):
    other = data.draw(st.lists(st.sampled_from(["a", "b", "<s>", "<y>", None]), min_size=1, max_size=6))
    ours, theirs = (spelled(row, bos=None, eos=None) for row in (tokens, other))
    padded = spelled([*tokens, None, None], bos=None, eos=None)
    assert same_vocabulary(ours, ours)
    assert same_vocabulary(ours, theirs) == same_vocabulary(theirs, ours) == same_vocabulary(padded, theirs)
    assert (differences(ours, theirs) == "") <= same_vocabulary(ours, theirs)


def test_what_differs_is_said_in_one_line():
    target = spelled([*BASE, "<|end|>", "<tool>"], eos=5)
    drafter = spelled(["a", "b", "ab", "<go>", "</s>", None, None, "<mine>"], bos=None)
    assert differences(target, drafter) == (
        "eos is id 5 '<|end|>' of the target, id 4 '</s>' of the drafter; bos is id 3 '<s>' of the target, none of the "
        "drafter; 1 special has two names, first id 3: '<s>' of the target, '<go>' of the drafter; 2 tokens are the "
        "target's alone, first id 5 '<|end|>'; 1 token is the drafter's alone, first id 7 '<mine>'"
    )
    assert differences(target, target) == ""
    other = spelled(["b", "a", "ab", "<s>", "</s>"])
    assert differences(spelled(BASE), other) == (
        "2 ids spell other text, first id 0: 'a' of the target, 'b' of the drafter"
    )


def test_specials_of_one_vocabulary_are_themselves():
    target, drafter = spelled([*BASE, "<|end|>"], eos=5), spelled([*BASE, None])
    assert counterparts(target, drafter) == {3: 3, 4: 4, 5: 5}
    assert counterparts(drafter, target) == {3: 3, 4: 4}


def test_specials_of_two_go_by_role_then_by_name():
    target = spelled(["a", "<s>", "<|end|>", "<|im_start|>", "<pad>", "<|sep|>"], bos=1, eos=2, silent={4})
    drafter = spelled(["<|im_start|>", "<pad>", "b", "</s>", "<|end|>"], bos=None, eos=3, silent={1})
    assert counterparts(target, drafter) == {2: 3, 3: 0}  # no opening there; pad never; <|sep|> is left out
    assert counterparts(drafter, target) == {3: 2, 0: 3, 4: 2}


def test_a_marker_that_is_text_for_one_side_is_its_counterpart_all_the_same():
    target = spelled(["a", "<s>", "</s>", "<|im_start|>"], bos=1, eos=2, added={3})
    drafter = spelled(["b", "<|im_start|>"], bos=None, eos=None)
    assert counterparts(target, drafter) == {3: 1}
