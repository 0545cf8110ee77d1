"""Pairs as people have them: base beside instruct, other heads, and a drafter of another family that reads a chat."""

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from drafters.vocab.matching import foreign_prompt, match_tokenizers

LETTERS = [*"abcdeserut", "Ġ", "us", "er"]
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' + m.content + '<|im_end|>' }}{% endfor %}"


def tokenizer(words, specials, *, eos=None, bos=None, template=None, plain=()) -> PreTrainedTokenizerFast:
    """Byte-level, merges "us" and "er"; ``plain`` are added tokens that are not marked special."""
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(words))}
    merges = [pair for pair in (("u", "s"), ("e", "r")) if "".join(pair) in vocabulary]
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True) for name in specials])
    backend.add_tokens([AddedToken(name, special=False) for name in plain])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, bos_token=bos, chat_template=template)


def base(**more):
    return tokenizer(LETTERS, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], eos="<|endoftext|>", **more)


def test_base_beside_instruct_is_one_vocabulary():
    instruct = tokenizer(
        LETTERS, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=CHATML, plain=["<tool>"]
    )
    match = match_tokenizers(instruct, base(), 20, 16)
    assert (match.same, match.foreign, match.feed) == (True, False, None)
    known = len(instruct)  # 15: twelve words, three specials; and <tool> which the drafter has a row for
    assert match.tokens.to_target.tolist() == list(range(16))[:known] + [-1] * max(0, 16 - known)
    assert match.tokens.to_drafter.tolist() == [*range(16), -1, -1, -1, -1][:20]
    assert "eos is id" in match.differences
    assert "'<|im_end|>' of the target" in match.differences


def test_rows_of_equal_number_need_no_map():
    match = match_tokenizers(base(), base(), 20, 20)
    assert match.vocab is None
    assert match.differences == ""
    assert (match.tokens.to_target[len(base()) :] == -1).all()
    assert match_tokenizers(base(), base(), 20, 24).vocab is not None


def test_the_user_is_obeyed_and_told():
    other = tokenizer(LETTERS[::-1], ["<|endoftext|>"], eos="<|endoftext|>")
    assert match_tokenizers(base(), other, 20, 20).foreign
    forced = match_tokenizers(base(), other, 20, 20, foreign=False)
    assert (forced.foreign, forced.same) == (False, False)
    assert "ids spell other text, first id 0: 'a' of the target, 'er' of the drafter" in forced.differences
    assert forced.tokens.to_target[:5].tolist() == [0, 1, 2, 3, 4]
    apart = match_tokenizers(base(), base(), 20, 20, foreign=True)
    assert (apart.foreign, apart.same) == (True, True)
    assert torch.equal(apart.feed.ids, torch.arange(20))


@pytest.mark.parametrize("plain", [(), ("<|im_start|>", "<|im_end|>")])
def test_a_chat_is_read_by_a_drafter_of_another_family(plain):
    """Markers that both know are themselves, the end is the end, others are left out: none is spelled as letters."""
    marks = [name for name in ("<|im_start|>", "<|im_end|>") if name not in plain]
    ours = tokenizer(LETTERS, ["<|x|>", "<|sep|>", *marks], eos="<|im_end|>", template=CHATML, plain=plain)
    theirs = tokenizer(["|", "<", ">", "_", *"imstarendopx", *LETTERS[::-1]], ["</s>", "<|im_start|>"], eos="</s>")
    match = match_tokenizers(ours, theirs, len(ours), len(theirs))
    assert match.foreign
    ids = ours("<|im_start|>user abc<|im_end|><|sep|><|im_start|>us").input_ids
    read = foreign_prompt(ours, theirs, match.feed, torch.tensor(ids)).tolist()
    assert theirs.decode(read) == "<|im_start|>user abc</s><|im_start|>us"
    assert theirs.convert_tokens_to_ids("<") not in read
    # Token by token, as what is committed is fed.
    fed = [d for token in ids for d in match.feed.row(token).tolist()]
    assert theirs.decode(fed) == "<|im_start|>user abc</s><|im_start|>us"


def test_a_marker_that_only_the_tokenizers_list_calls_special_is_not_spelled_either():
    """Llama 3's headers are special in the tokenizer's own list and in no named role."""
    ours = tokenizer(LETTERS, ["<|eot|>", "<|head|>"], eos="<|eot|>")
    theirs = tokenizer(["|", "<", ">", *LETTERS[::-1]], ["</s>"], eos="</s>")
    assert ours.convert_tokens_to_ids("<|head|>") not in ours.all_special_ids
    match = match_tokenizers(ours, theirs, len(ours), len(theirs))
    read = foreign_prompt(ours, theirs, match.feed, torch.tensor(ours("<|head|>us<|eot|>").input_ids))
    assert theirs.decode(read) == "us</s>"
