"""Every target token is fed as drafter tokens that spell exactly its bytes."""

import functools
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from drafters.vocab.feed import Speller, feed_table
from drafters.vocab.spelling import Scheme, Spelling, spelling
from tests.data import shared_path


@functools.cache
def real(name: str):
    return AutoTokenizer.from_pretrained(shared_path(name))


def byte_level(tokens: list[str], merges: list[tuple[str, str]] = (), **special: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(merges)))
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def speller(*texts: bytes) -> Speller:
    tokens = tuple(str(text) for text in texts)
    return Speller(Spelling(tokens, texts, frozenset(), bos=None, eos=None), Scheme())


@pytest.mark.parametrize(
    ("target", "drafter"),
    [
        ("tokenizers/gpt2", "models/stories260K"),
        ("models/stories260K", "tokenizers/gpt-neox-20b"),
        ("tokenizers/gpt2", "models/babyllama-105"),
        ("models/stories260K", "models/babyllama-105"),
        ("models/babyllama-105", "models/stories260K"),
    ],
)
def test_real_vocabularies_are_fed_byte_for_byte(target, drafter):
    ours, theirs = real(target), real(drafter)
    table = feed_table(ours, theirs, len(ours) + 2, len(theirs) + 3)
    target_text, drafter_text = spelling(ours, len(ours) + 2).text, spelling(theirs, len(theirs)).text
    unspelled = set(table.unspelled.tolist())
    assert len(table.offsets) == len(ours) + 3
    rows = zip(target_text, table.ids.split(table.offsets.diff().tolist()), strict=True)
    for t, (text, row) in enumerate(rows):
        if text is not None and t not in unspelled:
            assert b"".join(drafter_text[d] for d in row.tolist()) == text
        elif t in (ours.eos_token_id, ours.bos_token_id):
            assert row.tolist() == [theirs.eos_token_id if t == ours.eos_token_id else theirs.bos_token_id]
        else:
            assert len(row) == 0
    # Independent of the speller: a vocabulary of single characters spells a text iff it has every character of it.
    if drafter == "models/babyllama-105":
        letters = {text.decode() for text in drafter_text if text is not None}
        for t, text in enumerate(target_text):
            known = text is not None and set(text.decode("utf-8", "surrogateescape")) <= letters
            assert (t in unspelled) == (text is not None and not known)
        assert unspelled
    elif drafter == "tokenizers/gpt-neox-20b":  # it has no token for the bytes that UTF-8 never uses
        assert {target_text[t] for t in unspelled} == {bytes([byte]) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))}
    else:
        assert not unspelled


def test_one_tokenizer_is_fed_as_itself():
    stories = real("models/stories260K")
    table = feed_table(stories, stories, 512, 512)
    assert torch.equal(table.ids, torch.arange(512))
    assert torch.equal(table.offsets, torch.arange(513))
    assert len(table.unspelled) == 0


def test_the_drafters_own_segmentation_is_preferred_and_checked():
    target = byte_level(["abc", "abcd", "x"])
    merged = byte_level(["a", "b", "c", "d", "ab", "bc", "cd"], [("b", "c"), ("a", "b"), ("c", "d")])
    table = feed_table(target, merged, 3, 7)
    assert table.row(0).tolist() == [0, 5]  # a|bc, the drafter's merges, not ab|c
    assert table.row(1).tolist() == [0, 5, 3]  # a|bc|d, although ab|cd is shorter
    assert table.row(2).tolist() == []
    assert table.unspelled.tolist() == [2]


def test_a_segmentation_that_drops_bytes_falls_back_to_the_fewest_tokens():
    # Without a merge for it, BPE never reaches "ab" and drops the letter "a" it has no token for.
    drafter = byte_level(["ab", "b"])
    table = feed_table(byte_level(["abb", "b"]), drafter, 2, 2)
    assert table.row(0).tolist() == [0, 1]


def test_specials_are_fed_by_role():
    target = byte_level(["<s>", "</s>", "<pad>", "a"], bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    drafter = byte_level(["a", "<pad>", "<end>"], eos_token="<end>", pad_token="<pad>")
    table = feed_table(target, drafter, 5, 3)
    assert [table.row(t).tolist() for t in range(5)] == [[], [2], [], [0], []]
    assert len(table.unspelled) == 0  # specials and padding are no text


def test_fewer_tokens_win_and_the_longest_first_among_equals():
    spelled = speller(b"a", b"b", b"c", b"ab", b"bc", b"abcd")
    assert spelled.fewest(b"ab") == [3]
    assert spelled.fewest(b"abc") == [3, 2]  # not [0, 4]
    assert spelled.fewest(b"abcda") == [5, 0]
    assert spelled.fewest(b"abd") is None


@given(st.lists(st.binary(min_size=1, max_size=3).map(lambda b: bytes(x % 3 for x in b)), max_size=6), st.data())
def test_fewest_tokens_against_brute_force(vocabulary, data):
    text = bytes(data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=5)))
    found = speller(*vocabulary).fewest(text)
    spellings = [
        ids
        for length in range(1, len(text) + 1)
        for ids in product(range(len(vocabulary)), repeat=length)
        if b"".join(vocabulary[i] for i in ids) == text
    ]
    if not spellings:
        assert found is None
        return
    assert b"".join(vocabulary[i] for i in found) == text
    assert len(found) == min(map(len, spellings))
