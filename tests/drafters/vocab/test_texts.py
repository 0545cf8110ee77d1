"""Text handed over between tokenizers: aligned by bytes, whole characters only, accepted ids never tokenised again."""

import functools
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from drafters.vocab.spelling import Spelling
from drafters.vocab.texts import Texts, read_texts, spelled_texts
from tests.data import shared_path

ROOT = Path(__file__).resolve().parents[3]
GPT2, NEOX = "tokenizers/gpt2", "tokenizers/gpt-neox-20b"
TINY, LETTERS = "models/tinystories-bit-1M", "models/babyllama-105"
LARGE, SMALL = ROOT / "drafters/zoo/pycode/target", ROOT / "drafters/zoo/pycode/foreign"
PAIRS = {
    "gpt2-neox": (GPT2, NEOX),
    "neox-gpt2": (NEOX, GPT2),
    "tiny-gpt2": (TINY, GPT2),
    "gpt2-tiny": (GPT2, TINY),
    "tiny-letters": (TINY, LETTERS),
    "embedded": (LARGE, SMALL),
    "embedded-back": (SMALL, LARGE),
}
STRESS = [
    "  x", "a  b", "\n\n", "x\n\n\n  y\t\tz", "1234567 89", "日本語のテキスト", "👩‍👩‍👧 family",
    "naïve café", "▁literal ▁▁", "<|endoftext|>",
    "hello world", " leading", "trailing ", "don't", "def f(x):\n    return x", "\u200bzero", "e\u0301", "﷽", "\x00\x01",
]  # fmt: skip


@functools.cache
def texts(name: str) -> Texts:
    target, drafter = (folder if isinstance(folder, Path) else shared_path(folder) for folder in PAIRS[name])
    ours, theirs = AutoTokenizer.from_pretrained(target), AutoTokenizer.from_pretrained(drafter)
    return read_texts(ours, theirs, len(ours) + 3, len(theirs))


def spelled_by(spelling: Spelling, ids: list[int]) -> bytes:
    return b"".join(spelling.text[i] or b"" for i in ids)


def whole(data: bytes) -> bytes:
    return data.decode(errors="ignore").encode()


def check(both: Texts, before: str, after: str, cut: int) -> None:
    """`before` is committed; the drafter writes the bytes of `after` up to `cut`."""
    context = both.continuation([], before.encode())
    assert spelled_by(both.target, context) == before.encode()
    drafted = after.encode()[:cut]
    ids = both.continuation(context, drafted)
    assert spelled_by(both.target, ids) == whole(drafted)
    assert all(both.target.text[i] is not None for i in ids)
    own = both.to_drafter.spell(drafted) or []
    stream = both.stream(own, ids)
    kept = next((n for n, (a, b) in enumerate(zip(own, stream, strict=False)) if a != b), min(len(own), len(stream)))
    assert len(spelled_by(both.drafter, own[:kept])) <= len(whole(drafted))
    if spelled_by(both.drafter, own) == whole(drafted):
        assert stream == own  # the drafter's own segmentation stays, whatever it is
    if both.drafter.fallback or both.to_drafter.how.byte_level:
        assert spelled_by(both.drafter, stream) == whole(drafted)


@pytest.mark.parametrize("name", PAIRS)
def test_stress(name):
    both = texts(name)
    for before in ["", "The", *STRESS]:
        for after in STRESS:
            for cut in {1, 2, 3, len(after.encode()) - 1, len(after.encode())}:
                check(both, before, after, cut)


@pytest.mark.parametrize("name", ["gpt2-neox", "tiny-gpt2", "embedded"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=st.text(max_size=8), after=st.text(min_size=1, max_size=8), cut=st.integers(1, 32))
def test_any_text(name, before, after, cut):
    check(texts(name), before, after, cut)


@pytest.mark.parametrize("name", ["gpt2-neox", "neox-gpt2", "tiny-gpt2", "embedded"])
def test_a_context_is_continued_as_its_tokenizer_would(name):
    """Cut anywhere between two tokens, the rest of the tokenizer's own reading is what is proposed."""
    both = texts(name)
    text = "Once upon a time there was\na tiny token  that didn't know 1234 of its neighbours."
    ids = both.encode(text)
    for cut in range(1, len(ids)):
        rest = spelled_by(both.target, ids[cut:])
        assert both.continuation(ids[:cut], rest) == ids[cut:]


def test_a_token_across_the_end_of_the_context_is_split_there():
    both = texts("gpt2-neox")
    context = both.encode("I say hel")
    assert both.encode("I say hello")[: len(context)] != context  # "hello" is one token
    ids = both.continuation(context, b"lo world")
    assert spelled_by(both.target, ids) == b"lo world"


def test_incomplete_characters_are_held_back():
    both = texts("gpt2-neox")
    emoji = "👩".encode()
    for cut in range(len(emoji)):
        assert both.continuation(both.encode("so"), emoji[:cut]) == []
        assert spelled_by(both.target, both.continuation(both.encode("so"), b" far" + emoji[:cut])) == b" far"
    context = [*both.encode("so"), *both.to_target.fewest(emoji[:2])]  # the target itself stopped inside one
    ids = both.continuation(context, emoji[2:] + b" on")
    assert spelled_by(both.target, ids) == emoji[2:] + b" on"


def test_bytes_that_are_no_text_are_not_proposed():
    both = texts("embedded")
    assert both.continuation(both.encode("x"), b"\xff") == []
    assert spelled_by(both.target, both.continuation(both.encode("x"), b" = 1\xff2")) == b" = 1"


def test_first_tokens_are_the_beginnings_of_texts():
    both = texts("embedded")
    assert both.first.shape == (len(both.drafter.text),)
    for row, token in zip(both.rows.tolist(), both.first.tolist(), strict=True):
        text = both.drafter.text[row]
        if text is None:
            assert token == both.role(row)
        elif token >= 0:
            assert text.startswith(both.target.text[token])
        else:
            assert both.to_target.spell(text) is None
    assert (both.first >= 0).float().mean() > 0.99


def toy() -> Texts:
    ours = Spelling(
        ("</s>", "<s>", "a", "b", "ab", "é"), (None, None, b"a", b"b", b"ab", "é".encode()), frozenset(), 1, 0
    )
    theirs = Spelling(
        ("a", "b", "bb", "[end]", "[begin]", "[user]"), (b"a", b"b", b"bb", None, None, None), frozenset(), 4, 3
    )
    return spelled_texts(ours, theirs)


def test_the_drafters_own_ids_stay_as_far_as_they_fit():
    both = toy()
    assert both.stream([0, 2], [4, 3]) == [0, 2]  # a|bb spells ab|b
    assert both.stream([0, 2, 1], [4, 3]) == [0, 2]
    assert both.stream([0, 2], [4]) == [0, 1]  # bb goes too far
    assert both.stream([1], [4]) == [0, 1]  # another text
    assert both.stream([], [4, 3, 3]) == [0, 1, 2] or both.stream([], [4, 3, 3]) == [0, 2, 1]


def test_specials_go_by_role_and_what_cannot_be_spelled_is_left_out():
    both = toy()
    assert both.stream([], [1, 2, 0]) == [4, 0, 3]
    assert both.stream([0, 3], [2, 0]) == [0, 3]
    assert both.stream([3], [2, 0]) == [0, 3]
    assert both.stream([], [2, 5, 3]) == [0, 1]  # é has no drafter token
    assert [both.role(i) for i in (3, 4, 5, 0)] == [0, 1, -1, -1]
    assert both.first.tolist() == [2, 3, 3, 0, 1, -1]


def test_a_pruned_head_has_its_own_rows():
    whole_pair = toy()
    pruned = spelled_texts(whole_pair.target, whole_pair.drafter, torch.tensor([1, 3]))
    assert pruned.first.tolist() == [3, 0]
