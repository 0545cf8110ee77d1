"""What tokens add to a text: together they spell it, and bytes that are no characters are told."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from drafters.vocab.spelling import TokenizerMismatch
from eval.report.texts.answer import MOST_SPELLED
from eval.report.texts.spelled import TokenNames

BYTES = TokenNames([bytes([number]) for number in range(256)] + [None, None], [None] * 256 + ["<|end|>", None])


@given(st.text(max_size=12))
def test_characters_of_several_tokens_stand_once_at_the_last(text):
    found = BYTES.spelled(text.encode("utf-8"))
    assert "".join(shown for shown, _ in found) == text
    assert sum(bool(shown) for shown, _ in found) == len(text)
    assert [raw for _, raw in found] == [None if byte < 128 else f"{byte:02x}" for byte in text.encode()]


def test_bytes_without_a_character_are_told():
    assert BYTES.spelled(b"\xe2\x98a\xff") == [("", "e2"), ("", "98"), ("\ufffda", None), ("\ufffd", "ff")]
    assert BYTES.spelled([0xE2, 256, 0x41]) == [
        ("", "e2"),
        ("\ufffd<|end|>", None),
        ("A", None),
    ]  # nothing goes on behind it
    assert BYTES.spelled([257]) == [("<257>", None)]
    assert BYTES.alone(0x98) == ("\ufffd", "98")
    assert BYTES.alone(256) == ("<|end|>", None)


def test_long_tokens_are_cut():
    ((text, raw),) = TokenNames([b"-" * 300], [None]).spelled([0])
    assert (len(text), text[-1], raw) == (MOST_SPELLED, "\u2026", None)
    ((_, raw),) = TokenNames([b"\xff" * 300], [None]).spelled([0])
    assert len(raw) == 2 * MOST_SPELLED


def test_a_tokenizers_bytes_and_where_its_decoder_is_unknown_its_names(monkeypatch):
    backend = Tokenizer(models.BPE({"\u0120a": 0, "\u00c3": 1, "<e>": 2}, []))
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>")
    assert TokenNames.of(tokenizer, 4).spelled([0, 1, 2, 3]) == [
        (" a", None),
        ("", "c3"),
        ("\ufffd<e>", None),
        ("<3>", None),
    ]

    def unknown(*_):
        raise TokenizerMismatch("decoder step is not known")

    monkeypatch.setattr("eval.report.texts.spelled.spelling", unknown)
    assert [text for text, _ in TokenNames.of(tokenizer, 4).spelled([0, 1, 2, 3])] == [
        "\u0120a",
        "\u00c3",
        "<e>",
        "<3>",
    ]
