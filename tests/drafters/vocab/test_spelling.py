"""A token's spelling is what the tokenizer's own decoder writes for it."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from drafters.vocab.spelling import TokenizerMismatch, byte_alphabet, scheme, spelling
from tests.data import shared_path

REAL = ("tokenizers/gpt2", "tokenizers/gpt-neox-20b", "models/stories260K", "models/babyllama-105")


def tokenizer(vocab: list[str], decoder, **special: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(vocab)}, []))
    backend.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def sentencepiece() -> decoders.Decoder:
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def test_the_byte_alphabet_is_the_one_of_the_tokenizers_library():
    alphabet = byte_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    for text in ("é", "\x00 \t\n", "🙂", "­"):
        written = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]
        assert bytes(alphabet[letter] for letter in written) == text.encode()


@pytest.mark.parametrize("name", REAL)
def test_real_vocabularies_spell_what_their_decoder_writes(name):
    real = AutoTokenizer.from_pretrained(shared_path(name))
    spelled = spelling(real, len(real) + 3)
    assert spelled.text[-3:] == spelled.token[-3:] == (None, None, None)
    ordinary = [(i, text) for i, text in enumerate(spelled.text) if text is not None]
    assert len(ordinary) == len(real) - len(real.all_special_ids) - (name == "tokenizers/gpt-neox-20b")  # its padding
    backend, first_space = real.backend_tokenizer, scheme(real).space is not None
    for i, text in ordinary:
        written = text.decode("utf-8", "replace")
        # A SentencePiece decoder drops one space before a text's first word; that is the text's, not the token's.
        assert backend.decode([i]) == (written.removeprefix(" ") if first_space else written)


def test_byte_tokens_are_bytes_only_where_the_tokenizer_falls_back_to_them():
    vocab = ["<unk>", "<0xC3>", "▁the", "a"]
    spelled = spelling(tokenizer(vocab, sentencepiece(), unk_token="<unk>"), 6)
    assert spelled.text == (None, b"\xc3", b" the", b"a", None, None)
    assert spelled.fallback == {1}
    assert spelled.token[4:] == (None, None)
    plain = spelling(tokenizer(vocab, decoders.ByteLevel(), unk_token="<unk>"), 4)
    assert plain.text[1] == b"<0xC3>"
    assert not plain.fallback


def test_an_added_token_outside_the_alphabet_is_its_own_text():
    made = tokenizer(["a", "Ġa"], decoders.ByteLevel())
    made.add_tokens([AddedToken("  ", normalized=False)])
    assert spelling(made, 3).text == (b"a", b" a", b"  ")


def test_word_pieces_and_word_ends():
    assert spelling(tokenizer(["the", "##ing"], decoders.WordPiece()), 2).text == (b" the", b"ing")
    assert spelling(tokenizer(["the</w>", "th"], decoders.BPEDecoder("</w>")), 2).text == (b"the ", b"th")


def test_specials_have_roles_and_no_text():
    made = tokenizer(
        ["<s>", "</s>", "<pad>", "a"], decoders.ByteLevel(), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    spelled = spelling(made, 4)
    assert spelled.text == (None, None, None, b"a")
    assert (spelled.bos, spelled.eos) == (0, 1)


def test_written_inverts_text():
    for made in (tokenizer(["a"], decoders.ByteLevel()), tokenizer(["a"], sentencepiece())):
        how = scheme(made)
        assert how.text(how.written(" né ".encode())) == " né ".encode()
    assert scheme(tokenizer(["a"], decoders.ByteLevel())).written(b"\xff") is not None
    assert scheme(tokenizer(["a"], sentencepiece())).written(b"\xff") is None


def test_ids_beyond_the_models_rows_are_refused():
    with pytest.raises(TokenizerMismatch, match=r"ids up to 2, expected all below the model's vocabulary of 2 rows"):
        spelling(tokenizer(["a", "b", "c"], decoders.ByteLevel()), 2)


def test_an_unknown_decoder_is_refused_by_name():
    with pytest.raises(TokenizerMismatch, match="'CTC'"):
        scheme(tokenizer(["a"], decoders.CTC()))
