"""Tokens become text when their characters are whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from drafters.io.paths import ZOO
from pipeline.watch.transcript import Transcript
from tests.data import DATA, needs

BYTE_LEVEL = AutoTokenizer.from_pretrained(ZOO / "target")


def split(tokenizer, text, prompt="x = 1\n"):
    """The pieces that the tokens of a text become behind a prompt, one a token, and what was left."""
    before, whole = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, prompt + text))
    assert whole[: len(before)] == before
    transcript = Transcript.behind(tokenizer, before)
    return [transcript.add(token) for token in whole[len(before) :]], transcript.rest()


def test_a_character_is_shown_by_the_token_that_completes_it():
    found, rest = split(BYTE_LEVEL, "'日本 🎉é'")
    assert "".join(found) == "'日本 🎉é'"
    assert not rest
    assert "" in found  # 🎉 takes several tokens, of which the last shows it
    assert all("\ufffd" not in piece for piece in found)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
def test_no_text_is_lost_or_doubled(text):
    text = f"\n{text.replace(chr(0xFFFD), '?')}\n"
    found, rest = split(BYTE_LEVEL, text, "pass")
    assert "".join(found) + rest == text


@needs("models")
@pytest.mark.parametrize("name", ["tinystories-bit-1M", "stories260K"])
def test_words_keep_their_spaces_where_a_decoder_strips_them(name):
    tokenizer = AutoTokenizer.from_pretrained(DATA / "models" / name)
    found, rest = split(tokenizer, " a little girl é 日 who", prompt="There was")
    assert "".join(found) + rest == " a little girl é 日 who"


def test_what_never_becomes_a_character_is_shown_at_the_end():
    transcript = Transcript.behind(BYTE_LEVEL, [])
    token = BYTE_LEVEL("日", add_special_tokens=False)["input_ids"][0]
    assert transcript.add(token) == ""
    assert transcript.rest() == "\ufffd"
    assert transcript.rest() == ""


def test_a_terminal_is_not_commanded():
    found, _ = split(BYTE_LEVEL, "\x1b[2J\r\x07\x9b\tok\n", "pass\n")
    assert "".join(found) == "␛[2J␍␇\ufffd\tok\n"


def test_specials_are_silent():
    transcript = Transcript.behind(BYTE_LEVEL, [])
    assert transcript.add(BYTE_LEVEL.eos_token_id) == ""
    assert transcript.rest() == ""
