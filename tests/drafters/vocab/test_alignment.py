"""Vocabulary maps: bytes decide, ids and iteration order do not matter."""

import functools
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from drafters.vocab.alignment import (
    VocabMap,
    VocabMapError,
    align,
    align_spellings,
    identity,
    restrict,
    validate,
)
from drafters.vocab.one_vocabulary import same_vocabulary
from drafters.vocab.spelling import Spelling, spelling
from tests.data import shared_path

GPT2, NEOX = "tokenizers/gpt2", "tokenizers/gpt-neox-20b"
STORIES, BABY = "models/stories260K", "models/babyllama-105"


@functools.cache
def real(name: str):
    return AutoTokenizer.from_pretrained(shared_path(name))


def spelled(*texts: bytes | None, tokens=None, fallback=(), bos=None, eos=None, added=(), silent=()) -> Spelling:
    """A vocabulary from the bytes of its ids; None is a special token."""
    tokens = tokens or [f"{text}" if text is not None else f"<{i}>" for i, text in enumerate(texts)]
    return Spelling(tuple(tokens), tuple(texts), frozenset(fallback), bos, eos, frozenset(added), frozenset(silent))


class Reordered:
    """A tokenizer whose vocabulary comes in another order, as fast tokenizers' does from call to call."""

    def __init__(self, tokenizer, seed: int):
        self.tokenizer, self.seed = tokenizer, seed

    def __getattr__(self, name: str):
        return getattr(self.tokenizer, name)

    def get_vocab(self) -> dict[str, int]:
        entries = list(self.tokenizer.get_vocab().items())
        random.Random(self.seed).shuffle(entries)
        return dict(entries)


def plain_bytes(tokenizer) -> dict[int, bytes]:
    """Bytes of a byte-level vocabulary by transformers' own table, added tokens by their content."""
    table = {letter: byte for byte, letter in bytes_to_unicode().items()}
    added = tokenizer.added_tokens_decoder
    return {
        i: added[i].content.encode() if i in added else bytes(table[letter] for letter in token)
        for token, i in tokenizer.get_vocab().items()
        if i not in added or not added[i].special
    }


def test_gpt2_and_gpt_neox_share_what_a_brute_force_count_says():
    gpt2, neox = real(GPT2), real(NEOX)
    ours, theirs = plain_bytes(gpt2), plain_bytes(neox)
    shared = set(ours.values()) & set(theirs.values())
    for target, drafter, drafted in ((gpt2, neox, theirs), (neox, gpt2, ours)):
        vocab = align(target, drafter, len(target) + 47, len(drafter) + 5)
        assert int((vocab.to_target >= 0).sum()) == sum(text in shared for text in drafted.values()) + 1  # and eos
        assert int((vocab.to_drafter >= 0).sum()) == len(shared) + 1
        assert int(vocab.to_target[drafter.eos_token_id]) == target.eos_token_id
        assert (vocab.to_target[-5:] == -1).all()
        assert (vocab.to_drafter[-47:] == -1).all()
    assert len(shared) > 30_000


def test_the_order_of_get_vocab_changes_nothing():
    gpt2, stories = real(GPT2), real(STORIES)
    expected = align(gpt2, stories, 50_257, 512)
    shuffled = align(Reordered(gpt2, 1), Reordered(stories, 2), 50_257, 512)
    assert torch.equal(shuffled.to_target, expected.to_target)
    assert torch.equal(shuffled.to_drafter, expected.to_drafter)
    # The defect this guards against: rows taken in iteration order and scattered as if that were the order of ids.
    rows = list(Reordered(stories, 2).get_vocab().values())
    assert not torch.equal(expected.to_target[rows], expected.to_target)


def test_byte_tokens_meet_the_byte_level_alphabet():
    gpt2, stories = real(GPT2), real(STORIES)
    vocab = align(gpt2, stories, 50_257, 512)
    table = bytes_to_unicode()
    for byte in range(256):
        row = stories.convert_tokens_to_ids(f"<0x{byte:02X}>")
        assert int(vocab.to_target[row]) == gpt2.convert_tokens_to_ids(table[byte])
    the = stories.convert_tokens_to_ids("▁the"), gpt2.convert_tokens_to_ids("Ġthe")
    assert int(vocab.to_target[the[0]]) == the[1]
    assert int(vocab.to_drafter[the[1]]) == the[0]
    # Strings alone, the way that loses half the vocabulary, find far fewer.
    strings = set(gpt2.get_vocab()) & set(stories.get_vocab())
    assert len(strings) + 256 < int((vocab.to_target >= 0).sum())


def test_a_character_is_preferred_to_its_byte_token():
    stories, baby = real(STORIES), real(BABY)
    vocab = align(stories, baby, 512, 105)
    assert int((vocab.to_target >= 0).sum()) == 104  # all but <unk>
    for letter in "etaoin,.":
        assert int(vocab.to_target[baby.convert_tokens_to_ids(letter)]) == stories.convert_tokens_to_ids(letter)
    back = align(baby, stories, 105, 512)
    texts = {token.replace("▁", " ").encode() for token in baby.get_vocab()} - {b"<unk>", b"<s>", b"</s>"}
    images = Counter(back.to_target[back.to_target >= 0].tolist())
    for letter in "etaoin":
        token = baby.convert_tokens_to_ids(letter)
        assert int(back.to_drafter[token]) == stories.convert_tokens_to_ids(letter)
        assert images[token] == 2  # the letter and its byte token: their probabilities add up
    assert set(images) == {1, 2} | {baby.convert_tokens_to_ids(text.decode().replace(" ", "▁")) for text in texts}


def test_one_tokenizer_padded_to_two_sizes_is_the_identity():
    stories = real(STORIES)
    vocab = align(stories, stories, 512, 520)
    assert vocab.to_target.tolist() == [*range(512), *[-1] * 8]
    assert torch.equal(vocab.to_drafter, torch.arange(512))
    assert same_vocabulary(spelling(stories, 512), spelling(stories, 600))
    assert not same_vocabulary(spelling(stories, 512), spelling(real(BABY), 105))


def test_specials_go_by_role_then_by_name_and_never_pad_or_unk():
    names = ["<s>", "</s>", "<pad>", "<unk>", "a", "<|user|>"]
    target = spelled(None, None, None, None, b"a", None, tokens=names, bos=0, eos=1, silent={2, 3})
    names = ["a", "<pad>", "<end>", "<go>", "<unk>", "<|user|>", "<s>"]
    drafter = spelled(b"a", None, None, None, None, None, None, tokens=names, bos=3, eos=2, silent={1, 4})
    vocab = align_spellings(target, drafter)
    assert vocab.to_target.tolist() == [4, -1, 1, 0, -1, 5, 0]  # "<s>" is a name of the target's opening, too
    assert vocab.to_drafter.tolist() == [3, 2, -1, -1, 0, 5]  # the role is preferred


def test_one_id_for_begin_and_end_means_the_end():
    one, two = spelled(None, b"a", bos=0, eos=0), spelled(None, None, b"a", bos=0, eos=1)
    assert align_spellings(two, one).to_target.tolist() == [1, 2]  # drafting it proposes to end
    vocab = align_spellings(one, two)
    assert vocab.to_target.tolist() == [0, 0, 1]
    assert vocab.to_drafter.tolist() == [1, 2]


def test_several_ids_with_the_same_bytes():
    target = spelled(b"x", b"a", b"a", b"a", tokens=["x", "<0x61>", "a", "a2"], fallback={1})
    drafter = spelled(b"a", b"b", b"a", b"a", tokens=["<0x61>", "b", "A", "a"], fallback={0})
    vocab = align_spellings(target, drafter)
    assert vocab.to_target.tolist() == [1, -1, 2, 2]  # same string first, then what is not a byte token, then lowest
    assert vocab.to_drafter.tolist() == [-1, 0, 3, -1]
    lowest = align_spellings(spelled(b"a"), spelled(b"b", b"a", b"a", tokens=["b", "p", "q"]))
    assert lowest.to_target.tolist() == [-1, 0, 0]
    assert lowest.to_drafter.tolist() == [1]  # a map where the last wins says 2


def texts(size: int):
    return st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=2)), min_size=1, max_size=size)


@given(texts(24), texts(24))
def test_every_pair_of_vocabularies_gives_a_sound_map(target, drafter):
    ours = spelled(*target)
    theirs = spelled(*drafter, tokens=[f"d{text}" if text is not None else f"[{i}]" for i, text in enumerate(drafter)])
    vocab = align_spellings(ours, theirs)
    validate(vocab)
    if same_vocabulary(ours, theirs):
        assert vocab.to_target.tolist() == [d if d < len(target) else -1 for d in range(len(drafter))]
        return
    for d, t in enumerate(vocab.to_target.tolist()):
        assert (t >= 0) == (drafter[d] is not None and drafter[d] in target)
        assert t < 0 or target[t] == drafter[d]
    assert {target[t] for t in (vocab.to_drafter >= 0).nonzero().flatten().tolist()} == (set(target) & set(drafter)) - {
        None
    }


@given(st.lists(st.binary(min_size=1, max_size=2), min_size=2, max_size=30, unique=True), st.data())
def test_renumbering_both_vocabularies_renumbers_the_map(pool, data):
    split = data.draw(st.integers(1, len(pool)))
    target, drafter = pool[:split], pool[split // 2 :]
    new_target = torch.tensor(data.draw(st.permutations(range(len(target)))))  # old id -> new id
    new_drafter = torch.tensor(data.draw(st.permutations(range(len(drafter)))))

    def renumber(values: list[bytes], new: torch.Tensor) -> Spelling:
        return spelled(*(values[old] for old in new.argsort().tolist()))

    before = align_spellings(spelled(*target), spelled(*drafter))
    after = align_spellings(renumber(target, new_target), renumber(drafter, new_drafter))
    for d, t in enumerate(before.to_target.tolist()):
        assert int(after.to_target[new_drafter[d]]) == (-1 if t < 0 else int(new_target[t]))
    for t, d in enumerate(before.to_drafter.tolist()):
        assert int(after.to_drafter[new_target[t]]) == (-1 if d < 0 else int(new_drafter[d]))


def test_restriction_renumbers_rows_and_finds_stand_ins():
    vocab = VocabMap(torch.tensor([2, 0, 2, 2, -1]), torch.tensor([1, -1, 2]))
    kept = restrict(vocab, torch.tensor([0, 1, 2]))
    assert kept.to_target.tolist() == [2, 0, 2]
    assert kept.to_drafter.tolist() == [1, -1, 2]  # the preferred row stays, though row 0 is lower
    stand_in = restrict(vocab, torch.tensor([0, 3]))
    assert stand_in.to_target.tolist() == [2, 2]
    assert stand_in.to_drafter.tolist() == [-1, -1, 0]
    for one in (kept, stand_in, identity(7), restrict(identity(7), torch.tensor([2, 5]))):
        validate(one)


@pytest.mark.parametrize(
    ("to_target", "to_drafter", "message"),
    [
        ([0, 1], [0, 0], "target id 1 maps to row 0, which maps to target id 0"),
        ([0, 1], [0, -1], "row 1 maps to target id 1, which maps to no row"),
        ([0, 2], [0, 1], r"to_target must lie in \[-1, 2\), got \[0, 2\]"),
        ([0, -2], [0, -1], r"to_target must lie in \[-1, 2\), got \[-2, 0\]"),
        ([0, 1], [0, 2], r"to_drafter must lie in \[-1, 2\), got \[0, 2\]"),
        ([-1, 1], [0, 1], "target id 0 maps to row 0, which maps to target id -1"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused(to_target, to_drafter, message):
    with pytest.raises(VocabMapError, match=message):
        validate(VocabMap(torch.tensor(to_target), torch.tensor(to_drafter)))


def test_a_map_of_another_type_or_shape_is_refused():
    ids = torch.arange(3)
    for bad in (ids.int(), ids[None]):
        with pytest.raises(VocabMapError, match="int64 with one axis"):
            validate(VocabMap(bad, ids))
