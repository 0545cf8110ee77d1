"""A smaller tokenizer spells every text of kept tokens exactly as the full one, and every other text reversibly."""

import functools
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from drafters.export import shrink_tokenizer as surgery
from drafters.export.shrink_tokenizer import PLACEHOLDER, SurgeryError, derivation, shrink
from tests.data import shared_path

ROOT = Path(__file__).resolve().parents[3]
EMBEDDED, FOREIGN = "drafters/zoo/pycode/drafter", "drafters/zoo/pycode/foreign"
REAL = ["tokenizers/gpt2", "tokenizers/gpt-neox-20b", "models/stories260K"]
STRANGE = [
    "def f(x):\n\treturn {'a': x ** 2}  # comment\n\n\n    pass",
    "你好,世界 日本語のテキスト 한국어",
    "🎉👩‍👩‍👧‍👦🇩🇪 \U0001f680 naïve ünïcödé",
    "   leading and trailing   ",
]


@functools.cache
def full(name: str):
    place = ROOT / name if name.startswith("drafters/") else shared_path(name)
    return AutoTokenizer.from_pretrained(place)


@functools.cache
def text() -> str:
    return "".join(path.read_text() for path in sorted((ROOT / "drafters").rglob("*.py")))[:20_000]


def some_kept(tokenizer, seed: int = 0) -> list[int]:
    """A third of the ids that some text uses, and a few that it does not."""
    ids = sorted(set(tokenizer(text())["input_ids"]))
    chosen = random.Random(seed)
    return chosen.sample(ids, len(ids) // 3) + chosen.sample(range(len(tokenizer)), 5)


@functools.cache
def shrunk(name: str):
    return shrink(full(name), some_kept(full(name)))


def differences(tokenizer, small) -> tuple[int, int]:
    """(texts of kept tokens only, those of them that the small tokenizer encodes otherwise)."""
    new = {int(old): row for row, old in enumerate(small.ids)}
    words = [
        word for line in text().splitlines() for word in (line, *line.split(" "), *(f" {w}" for w in line.split()))
    ]
    words = list(dict.fromkeys(filter(None, words)))
    pairs = zip(tokenizer(words)["input_ids"], small.tokenizer(words)["input_ids"], strict=True)
    spelled = [([new[number] for number in ids], found) for ids, found in pairs if all(number in new for number in ids)]
    return len(spelled), sum(expected != found for expected, found in spelled)


@pytest.mark.parametrize("name", [EMBEDDED, FOREIGN, *REAL])
def test_texts_of_kept_tokens_are_encoded_as_before(name):
    tokenizer = full(name)
    small = shrunk(name)
    assert set(some_kept(tokenizer)) <= set(small.ids.tolist())
    assert len(small.ids) < len(tokenizer)
    checked, wrong = differences(tokenizer, small)
    assert checked >= 200
    assert wrong == 0


@pytest.mark.parametrize("name", [EMBEDDED])
def test_without_the_closure_it_would_not_hold(name, monkeypatch):
    """The planted bug: keep the tokens alone, as a plain intersection of the vocabulary does."""
    monkeypatch.setattr(surgery, "derivation", lambda token, ranks: [token])
    tokenizer = full(name)
    assert differences(tokenizer, shrink(tokenizer, some_kept(tokenizer)))[1] > 0


@pytest.mark.parametrize("name", [EMBEDDED, FOREIGN, *REAL])
@pytest.mark.parametrize("strange", STRANGE)
def test_any_text_comes_back(name, strange):
    tokenizer, small = full(name), shrunk(name).tokenizer
    expected = tokenizer.decode(tokenizer(strange)["input_ids"], skip_special_tokens=True)
    assert small.decode(small(strange)["input_ids"], skip_special_tokens=True) == expected
    if name == EMBEDDED:
        assert expected == strange


@pytest.mark.parametrize("name", [EMBEDDED, *REAL])
def test_roles_and_what_is_saved(name, tmp_path):
    tokenizer, small = full(name), shrunk(name)
    new = {int(old): row for row, old in enumerate(small.ids)}
    assert small.tokenizer.eos_token_id == new[tokenizer.eos_token_id]
    assert small.tokenizer.bos_token_id == new[tokenizer.bos_token_id]
    unknown = small.tokenizer.unk_token_id
    assert unknown == (len(small.ids) if small.placeholder else new[tokenizer.unk_token_id])
    assert unknown != small.tokenizer.eos_token_id, "a reader would feed an end of text in the middle of one"
    assert small.placeholder == (name != "models/stories260K")
    assert len(small.tokenizer) == len(small.ids) + small.placeholder
    small.tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for strange in STRANGE:
        assert again(strange)["input_ids"] == small.tokenizer(strange)["input_ids"]
    assert (again.eos_token_id, again.unk_token_id) == (small.tokenizer.eos_token_id, unknown)
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix == ".py"] == []


def test_the_chat_template_goes_along():
    tokenizer = AutoTokenizer.from_pretrained(ROOT / EMBEDDED)
    tokenizer.chat_template = "{{ messages }}"
    assert shrink(tokenizer, [5]).tokenizer.chat_template == "{{ messages }}"


def test_a_derivation_is_what_encoding_does():
    ranks = {("a", "b"): 0, ("b", "c"): 1, ("ab", "c"): 2, ("a", "a"): 3}
    assert derivation("abc", ranks) == ["a", "b", "c", "ab", "abc"]
    assert derivation("aaa", ranks) == ["a", "a", "a", "aa"]  # the leftmost pair; "aaa" cannot be formed
    assert derivation("a", ranks) == ["a"]


def small_backend(model, **parts) -> PreTrainedTokenizerFast:
    backend = Tokenizer(model)
    for name, part in parts.items():
        setattr(backend, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def test_unigram():
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [("▁", -3.0), ("a", -4.0), ("b", -4.1), ("ab", -5.0), ("▁ab", -6.0), ("▁a", -4.5), ("c", -9.0)]
    tokenizer = small_backend(
        models.Unigram(pieces, unk_id=0), pre_tokenizer=pre_tokenizers.Metaspace(), decoder=decoders.Metaspace()
    )
    ids = tokenizer("abb")["input_ids"]
    small = shrink(tokenizer, ids)
    assert small.ids.tolist() == sorted({0, 1, 2, *ids})
    assert small.tokenizer.convert_ids_to_tokens(small.tokenizer("abb")["input_ids"]) == ["▁ab", "b"]
    assert small.tokenizer("c")["input_ids"][-1] == small.tokenizer.unk_token_id == 0


def test_wordpiece_and_templates():
    vocab = {"[PAD]": 0, "<unk>": 1, "<s>": 2, "</s>": 3, "un": 4, "##happy": 5, "##hap": 6, "unhappy": 7, "##py": 8}
    tokenizer = small_backend(
        models.WordPiece(vocab, unk_token="<unk>"),
        normalizer=normalizers.Lowercase(),
        pre_tokenizer=pre_tokenizers.Whitespace(),
        decoder=decoders.WordPiece(),
        post_processor=processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]),
    )
    small = shrink(tokenizer, [4, 5])
    assert small.ids.tolist() == [1, 2, 3, 4, 5]
    assert small.tokenizer("unhappy")["input_ids"] == [1, 3, 4, 2]  # bos, un, ##happy, eos in the new numbering
    bert = small_backend(
        models.WordPiece(vocab, unk_token="<unk>"), post_processor=processors.BertProcessing(("</s>", 3), ("<s>", 2))
    )
    assert shrink(bert, [7]).tokenizer("unhappy")["input_ids"] == [1, 3, 2]


def test_what_cannot_be_reduced_says_why():
    clip = small_backend(models.BPE({"<unk>": 0, "a</w>": 1}, [], end_of_word_suffix="</w>", unk_token="<unk>"))
    with pytest.raises(SurgeryError, match="ends of words"):
        shrink(clip, [1])
    with pytest.raises(SurgeryError, match="belongs to another model"):
        shrink(full(EMBEDDED), [1 << 20])
    with pytest.raises(SurgeryError, match=r"no tokenizer\.json"):
        shrink(type("Slow", (), {"name_or_path": "slow"})(), [1])


def test_the_placeholder_is_a_special_token():
    small = shrink(full(EMBEDDED), [9]).tokenizer
    assert small.unk_token == PLACEHOLDER
    assert PLACEHOLDER in small.all_special_tokens
    assert small.decode([small.unk_token_id], skip_special_tokens=True) == ""
