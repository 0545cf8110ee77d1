"""Counting distinct pieces gives the counts of plain encoding, for every family of tokenizer, on any text."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from drafters.vocab.counting import counts, pretokens, tally
from drafters.vocab.counting.counts import count_tokens
from drafters.vocab.counting.pretoken_regex import NotLocal
from drafters.vocab.counting.pretokens import plan
from tests.data import shared_path

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

SAMPLE = [
    "def f(x):\n    return x + 1  # caf\u00e9\n\n\nclass A:\n\tpass\n",
    "It's 1234567 o'clock; they'LL say 'tis fine\u2026 \r\n\r\n  \t ok \x1c\x0b\x0c\x85\u00a0end ",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 mixed \u65e5\u672c\u8a9e text \U0001f600\U0001f1e9\U0001f1ea e\u0301 n\u0303",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!  12 3456\n   \u0645\u0631\u062d\u0628\u0627 x",
    "", " ", "\n", "  lead", "trail  ", "\u2581mark \u2581\u2581 here", "a\u0308 \u0308b \u212a",
]  # fmt: skip


def byte_level(pre_tokenizer, normalizer=None, added=()) -> Tokenizer:
    """A small byte-level BPE tokenizer trained on the samples."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SAMPLE * 3, trainer)
    tokenizer.add_tokens([token for token in added if not token.special])
    tokenizer.add_special_tokens([token for token in added if token.special])
    return tokenizer


def split_regex(pattern: str) -> Tokenizer:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return byte_level(
        pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    )


def sentencepiece(scheme: str, byte_fallback: bool, legacy: bool = False, split: bool = False) -> Tokenizer:
    """A BPE tokenizer whose space is a mark: merges never cross the start of a word."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{code:02X}>" for code in range(256)] * byte_fallback
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=specials, limit_alphabet=60, show_progress=False)
    trained.train_from_iterator([text for text in SAMPLE if text.isascii()] * 3, trainer)
    spec = json.loads(trained.to_str())
    spec["model"] |= {"byte_fallback": byte_fallback, "fuse_unk": True}
    spec["added_tokens"] = spec["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        tokenizer.pre_tokenizer = None
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    return tokenizer


SPACES = [AddedToken(" " * n, normalized=True) for n in (2, 3, 8)]
END = AddedToken("<|end|>", special=True, normalized=False)
MASK = AddedToken("<mask>", special=True, lstrip=True, rstrip=True)
TOKENIZERS = {
    "gpt2-style": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), added=[END, MASK]),
    "prefix-space": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), added=[END]),
    "neox-style": lambda: byte_level(
        pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC(), [END, *SPACES]
    ),
    "starcoder-style": lambda: byte_level(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        added=[END],
    ),
    "llama3-style": lambda: split_regex(LLAMA3),
    "qwen2-style": lambda: split_regex(QWEN2),
    "o200k-style": lambda: split_regex(O200K),
    "own-regex": lambda: split_regex(r"\p{L}+|\d|[^\p{L}\d\s]|\s"),
    "llama2-style": lambda: sentencepiece("always", byte_fallback=True),
    "llama2-legacy": lambda: sentencepiece("always", byte_fallback=True, legacy=True),
    "metaspace-split": lambda: sentencepiece("first", byte_fallback=True, split=True),
    "metaspace-never": lambda: sentencepiece("never", byte_fallback=False),
}
SENTENCEPIECE = ("llama2-style", "llama2-legacy", "metaspace-split", "metaspace-never")


@pytest.fixture(scope="module", params=TOKENIZERS)
def local(request) -> tuple[str, Tokenizer]:
    return request.param, TOKENIZERS[request.param]()


def plainly(tokenizer, texts) -> np.ndarray:
    """The definition: every text encoded, every id counted."""
    size = max(tokenizer.get_vocab().values()) + 1
    counted = np.zeros(size, dtype=np.int64)
    for text in texts:
        encoded = tokenizer.encode(tally.well_formed(text), add_special_tokens=False)
        np.add.at(counted, encoded.ids if isinstance(tokenizer, Tokenizer) else encoded, 1)
    return counted


def assert_exact(tokenizer, texts, **options):
    result = count_tokens(tokenizer, [(f"domain {i % 2}", text) for i, text in enumerate(texts)], **options)
    expected = plainly(tokenizer, texts)
    assert result.counts.tolist() == expected.tolist()
    for i in range(2):
        if (name := f"domain {i}") in result.domains:
            assert result.domains[name].tolist() == plainly(tokenizer, texts[i::2]).tolist()
    assert result.documents == len(texts)
    assert result.tokens == expected.sum()
    return result


@pytest.fixture
def unchecked(monkeypatch):
    """Without the agreement check on the first texts, which would hide an inexact cut behind plain encoding."""
    monkeypatch.setattr(counts, "CHECKED_CHARACTERS", 1)


def test_samples(local, unchecked):
    name, tokenizer = local
    texts = [
        "first",
        *SAMPLE,
        " ".join(SAMPLE),
        "a<|end|>b <|end|>  c</s> <s>d  <mask>  e",
        "<|end|>" * 3,
        "x\0y",
        "</s>",
    ]
    result = assert_exact(tokenizer, texts, workers=1)
    assert result.method == ("sentencepiece" if name in SENTENCEPIECE else "byte-level"), result.reason


ALPHABET = st.one_of(
    st.sampled_from(list("aAzZ09_'\".,(){}=+-/\\<>|$^`~ \n\r\t\x0b\x0c\x1c\x1f\0")),
    st.sampled_from(["  ", "    ", "\r\n", "'s", "'LL", "<|end|>", "</s>", "<mask>", "\u2581", "\ud800", "\u0301"]),
    st.characters(),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(st.lists(ALPHABET, max_size=30).map("".join), max_size=4))
def test_any_text(local, texts):
    _, tokenizer = local
    cuts = plan(tokenizer.to_str())
    table = tally.Tally(tokenizer, cuts, max(tokenizer.get_vocab().values()) + 1)
    clean = [tally.well_formed(text) for text in texts]
    table.extend([("", text) for text in clean])
    assert table.finish().get("", np.zeros(table.size)).tolist() == plainly(tokenizer, clean).tolist()


@pytest.mark.parametrize(
    "name", ["tokenizers/gpt2", "tokenizers/gpt-neox-20b", "models/stories260K", "models/babyllama-105"]
)
def test_real_tokenizers(name, unchecked):
    folder = shared_path(name)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    source = [path.read_text(errors="replace") for path in sorted(Path(json.__file__).parent.parent.glob("[a-c]*.py"))]
    texts = SAMPLE + source + [shared_path("text/tinyshakespeare.txt").read_text()[:100_000]]
    result = assert_exact(tokenizer, texts)
    assert result.method == ("sentencepiece" if name.startswith("models") else "byte-level")


def test_flushes_keep_the_counts(local, unchecked, monkeypatch):
    _, tokenizer = local
    monkeypatch.setattr(tally, "MAX_ENTRIES", 20)
    texts = SAMPLE * 5
    assert_exact(tokenizer, texts, workers=1)


def test_worker_processes(unchecked, monkeypatch):
    monkeypatch.setattr(counts, "ALONE_CHARACTERS", 100)
    monkeypatch.setattr(counts, "BATCH_CHARACTERS", 50)
    assert_exact(TOKENIZERS["neox-style"](), SAMPLE * 20, workers=3)


def test_a_planted_bug_is_caught(monkeypatch):
    """Cutting at every space, also inside a run, drops the boundary that the look-ahead makes."""
    monkeypatch.setattr(pretokens, "_SPACE_LED", r" ?[^ ]*")
    tokenizer = TOKENIZERS["neox-style"]()
    text = "\u00e9tude    de   nu\u00e9e  x" * 3
    table = tally.Tally(tokenizer, plan(tokenizer.to_str()), max(tokenizer.get_vocab().values()) + 1)
    table.add("", text)
    assert table.finish()[""].tolist() != plainly(tokenizer, [text]).tolist()
    result = count_tokens(tokenizer, [("", text)])  # and the check on the first texts turns to plain encoding
    assert result.method == "plain"
    assert "differ" in result.reason
    assert result.counts.tolist() == plainly(tokenizer, [text]).tolist()


def test_texts_do_not_run_into_each_other():
    tokenizer = TOKENIZERS["gpt2-style"]()
    texts = ["def", "ine", " ", " x", "\n", "\n"]
    assert plainly(tokenizer, texts).tolist() != plainly(tokenizer, ["".join(texts)]).tolist()
    assert_exact(tokenizer, texts)


REFUSED = {
    "WordPiece": lambda: Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")),
    "normalizer Lowercase": lambda: byte_level(
        pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Lowercase()
    ),
    "Whitespace": lambda: byte_level(
        pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel()])
    ),
    "in the pre-tokenizer's expression": lambda: split_regex(r"^\p{L}+|\p{L}|[^\p{L}]"),
    "does not cover": lambda: split_regex(r"\p{L}+|\s+"),
    "no space mark": lambda: Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])),
    "merges cross": lambda: _crossing(),
    "dropout": lambda: _with_model(dropout=0.1),
}


def _with_model(**changes) -> Tokenizer:
    spec = json.loads(TOKENIZERS["gpt2-style"]().to_str())
    spec["model"] |= changes
    return Tokenizer.from_str(json.dumps(spec))


def _crossing() -> Tokenizer:
    vocab = {"\u2581": 0, "a": 1, "b": 2, "a\u2581": 3, "a\u2581b": 4}
    tokenizer = Tokenizer(models.BPE(vocab, [("a", "\u2581"), ("a\u2581", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    return tokenizer


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_proven_is_encoded_plainly(reason):
    tokenizer = REFUSED[reason]()
    with pytest.raises(NotLocal, match=reason.replace(" ", r"\ ").replace("'", ".")):
        plan(tokenizer.to_str())
    if reason != "dropout":  # random: no two encodings agree
        result = assert_exact(tokenizer, ["a b", "ab", "a aa b a b"])
        assert result.method == "plain"
        assert reason in result.reason


def test_truncation_and_padding_of_the_file_do_not_count():
    tokenizer = TOKENIZERS["gpt2-style"]()
    expected = plainly(tokenizer, SAMPLE)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    assert count_tokens(tokenizer, [("", text) for text in SAMPLE]).counts.tolist() == expected.tolist()
    assert tokenizer.truncation["max_length"] == 3  # the caller's tokenizer is as it was


def test_vocabulary_size_and_workers_are_checked():
    tokenizer = TOKENIZERS["gpt2-style"]()
    assert len(count_tokens(tokenizer, [], vocabulary=1000).counts) == 1000
    with pytest.raises(ValueError, match="vocabulary has 10 tokens"):
        count_tokens(tokenizer, [], vocabulary=10)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        count_tokens(tokenizer, [], workers=0)


def test_lone_surrogates_become_replacement_characters():
    assert tally.well_formed("a\ud800b\udc00") == "a\ufffdb\ufffd"
    assert tally.well_formed("\ud83d\ude00 \U0001f600") == "\U0001f600 \U0001f600"  # a split pair is put together
