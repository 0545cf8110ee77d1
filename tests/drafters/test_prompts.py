"""Prompts in every form that people have them: the same rows of ids from each, and padding never read as text."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BatchEncoding, PreTrainedTokenizerFast

from drafters.prompts import read_prompts

V = 16
WORDS = {"<s>": 0, "</s>": 1, "<u>": 2, "<a>": 3, **{letter: 4 + at for at, letter in enumerate("abcdefgh")}}
TEMPLATE = (
    "{% for m in messages %}{{ '<u> ' if m['role'] == 'user' else '<a> ' }}{{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
USER, ASSISTANT = {"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}


@pytest.fixture(scope="module")
def tokenizer():
    """Words of one letter, <s> in front, padded at the left with its end of text."""
    backend = Tokenizer(models.WordLevel(WORDS, unk_token="h"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>", padding_side="left",
        additional_special_tokens=["<u>", "<a>"], chat_template=TEMPLATE,
    )  # fmt: skip


def read(given, mask=None, tokenizer=None, pads=(1,), never_text=()):
    return [row.tolist() for row in read_prompts(given, mask, lambda: tokenizer, V, pads, never_text)]


LONG, SHORT = [0, 4, 5, 6], [0, 7]  # "a b c" and "d"
PADDED, MASK = [LONG, [1, 1, *SHORT]], [[1, 1, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("given", "mask"),
    [
        ([torch.tensor(LONG), torch.tensor(SHORT)], None),
        ([LONG, SHORT], None),
        ([np.array(LONG), np.array(SHORT)], None),
        (torch.tensor(PADDED), torch.tensor(MASK)),
        (torch.tensor(PADDED, dtype=torch.int32), torch.tensor(MASK).bool()),
        (np.array(PADDED), np.array(MASK)),
        (PADDED, MASK),
        (torch.tensor([LONG, [*SHORT, 1, 1]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])),
        ({"input_ids": PADDED, "attention_mask": MASK, "token_type_ids": [[0] * 4] * 2}, None),
        (BatchEncoding({"input_ids": torch.tensor(PADDED), "attention_mask": torch.tensor(MASK)}), None),
    ],
)
def test_ids_in_every_form(given, mask):
    assert read(given, mask) == [LONG, SHORT]


@pytest.mark.parametrize("given", [LONG, [LONG], torch.tensor(LONG), torch.tensor([LONG]), {"input_ids": LONG}])
def test_one_prompt(given):
    assert read(given) == [LONG]
    assert read(given, [1, 1, 1, 0]) == [LONG[:3]]
    assert read([]) == []


def test_what_a_tokenizer_returns(tokenizer):
    texts = ["a b c", "d"]
    for tensors in ("pt", "np", None):
        assert read(tokenizer(texts, padding=True, return_tensors=tensors)) == [LONG, SHORT]
    assert read(tokenizer(texts)) == [LONG, SHORT]
    assert read(tokenizer("d")) == [SHORT]
    assert read(texts, tokenizer=tokenizer) == [LONG, SHORT]
    assert read("d", tokenizer=tokenizer) == [SHORT]


def test_chats(tokenizer):
    """The template's own special tokens, none added; where the assistant has the last word it goes on."""
    assert read([USER], tokenizer=tokenizer) == [[2, 4, 5, 3]]
    assert read([USER, ASSISTANT], tokenizer=tokenizer) == [[2, 4, 5, 3, 6]]
    assert read([[USER], [USER, ASSISTANT, USER]], tokenizer=tokenizer) == [[2, 4, 5, 3], [2, 4, 5, 3, 6, 2, 4, 5, 3]]
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match="expected a tokenizer with a chat template"):
        read([USER], tokenizer=bare)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (PADDED, "1 of 2 rows begin with pad ids"),
        ([LONG, [*SHORT, 1, 1]], "1 of 2 rows end with pad ids"),
        ([[1, 0, 7], [1, 1, 7], [1, 1, 9]], "2 of 3 rows begin"),  # begins with what it is padded with, as GPT-2's do
    ],
)
def test_padding_without_its_mask_is_refused(rows, said):
    for given in (rows, torch.tensor(rows)):
        with pytest.raises(ValueError, match=rf"{said}.*give attention_mask=.*or a list of prompts"):
            read(given)
        assert read(given, torch.ones(len(rows), len(rows[0]))) == rows  # said to be text


@pytest.mark.parametrize("rows", [[[1, 4, 5], [1, 6, 7]], [[1, 1, 4]], [[1, 4], [5]], [[4, 1, 5], [4, 5, 1, 6]]])
def test_an_opening_token_that_is_also_the_pad_is_text(rows):
    assert read(rows) == rows


@pytest.mark.parametrize("rows", [[[1, 1, 4]], [[1, 4, 5], [1, 6, 7]], [[4, 5], [1, 6, 7]]])
def test_an_opening_token_that_only_pads_is_padding_of_one_row_and_of_equally_padded_ones(rows):
    with pytest.raises(ValueError, match=rf"{sum(row[0] == 1 for row in rows)} of {len(rows)} rows begin with pad ids"):
        read(rows, never_text=(1,))
    assert read([[4, 1, 1], [5, 6, 7]], pads=(), never_text=(1,)) == [[4, 1, 1], [5, 6, 7]]  # beginnings alone


@pytest.mark.parametrize(
    ("given", "mask", "said"),
    [
        ([LONG], [[1, 0, 1, 1]], "a hole in row 0"),
        ([LONG], [[1, 1, 1]], "the shape of input_ids"),
        ([LONG, LONG], [[1, 1, 1, 1]], "expected 2 rows"),
        ([[0, V]], None, "from 0 to 15, got 0 to 16"),
        ([[0, -100]], None, "got -100 to 0; give rows of different lengths as a list, or padded ones with"),
        (torch.zeros(1, 1, 1), None, "shape"),
        (torch.zeros(3), None, "int64"),
        ([[0.5]], None, "expected ids, texts or chats, got a list of float"),
        ({"role": "user", "content": "a"}, None, "a chat is a list"),
    ],
)
def test_what_is_no_prompt_is_refused(given, mask, said):
    with pytest.raises(ValueError, match=said):
        read(given, mask)
