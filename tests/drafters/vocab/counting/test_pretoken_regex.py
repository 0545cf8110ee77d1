"""What is proven of the regular expressions of pre-tokenizers, on the published ones and on ones that must not pass."""

import re

import pytest
from tokenizers import Regex, pre_tokenizers

from drafters.vocab.counting.pretoken_regex import GPT2, GPT2_AFTER_DIGITS, NotLocal, ascii_pattern, space_leads

# as the published tokenizers have them
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize("pattern", [GPT2, LLAMA3, QWEN2, O200K, r"\p{P}|\p{S}+|\p{Lu}\p{Ll}*|[^\p{P}\p{S}\p{Lu}]"])
def test_translation_splits_ascii_text_as_the_tokenizer_does(pattern):
    """Every triple of one character of each kind: all the look-ahead, contraction and run cases at once."""
    kinds = "aZ9' _.-\n\r\t\x0b\x1c\x7f(s"
    text = "".join(a + b + c + d for a in kinds for b in kinds for c in kinds for d in "a \n.")
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    expected = [piece for piece, _ in split.pre_tokenize_str(text)]
    assert re.findall(ascii_pattern(pattern), text) == expected


@pytest.mark.parametrize(
    "pattern", [r"\bx|\s|\S", r"(a)|[\s\S]", r"[a-z&&[^b]]|\s|\S", r"\p{Han}|\s|\S", r"\S+(?<=a)|\s|\S"]
)
def test_what_is_outside_the_grammar_is_refused(pattern):
    with pytest.raises(NotLocal):
        ascii_pattern(pattern)


@pytest.mark.parametrize("pattern", [GPT2, GPT2_AFTER_DIGITS, LLAMA3, QWEN2, O200K, r"\p{L}++|\s|[^\s\p{L}]{1,4}+"])
def test_a_space_leads_in_the_published_expressions(pattern):
    assert space_leads(pattern)


@pytest.mark.parametrize(
    "pattern",
    [r"\p{L}+ ?|[^\p{L}]", r"\p{L}+\s|\s|.", r"[^\p{L}]+|\p{L}+", r"(?:\p{L}|\s)+|.", r"\p{L}+(?!\S)|[\s\S]",
     r"[\s\w]{2}|\S", r"\s+(?!\S\s)|\S+", r"\s+(?=\S)|\S+", r"(?:a(?:b| ))|\S|\s"],
)  # fmt: skip
def test_a_space_does_not_lead(pattern):
    assert not space_leads(pattern)
