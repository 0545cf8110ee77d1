"""Makes a ``tokenizer.json`` of a family's kind: its splitting, its decoder, its added tokens, a few hundred learnt rows."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers

from tests.families.family import TokenizerKind

TEXT = Path(__file__).resolve().parents[2] / "LICENSE"  # English that never changes
MORE = "Ünïcode, 漢字 and 😀: 2026-11-28 = 3.14159\n\tdef f(x):\n        return x\n\n"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
SPACE = "▁"


@cache
def make(kind: TokenizerKind) -> str:
    """The JSON text of the tokenizer."""
    tokenizer = Tokenizer(models.BPE(unk_token=kind.unk))
    data = _sentencepiece(kind, tokenizer) if kind.pattern is None else _byte_level(kind, tokenizer)
    if kind.template:
        data["post_processor"] = _template(kind.template, data)
    return json.dumps(data, ensure_ascii=False)


def ids(kind: TokenizerKind) -> dict[str, int]:
    """Token -> id, of all tokens."""
    data = json.loads(make(kind))
    return data["model"]["vocab"] | {entry["content"]: entry["id"] for entry in data["added_tokens"]}


def _learn(kind: TokenizerKind, tokenizer: Tokenizer, first: tuple[str, ...], alphabet: list[str]) -> dict[str, Any]:
    size = len(first) + len(alphabet) + kind.learnt
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(first), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT.read_text(encoding="utf-8"), MORE], trainer)
    flags = {"normalized": False, "rstrip": kind.rstrip}
    added = [AddedToken(name, special=name not in kind.ordinary, **flags) for name in (*kind.first, *kind.last)]
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    named = {name: name in kind.ordinary for name in (*kind.first, *kind.last)}
    data["added_tokens"] = [entry for entry in data["added_tokens"] if entry["content"] in named]
    for entry in data["added_tokens"]:
        entry["special"] = not named[entry["content"]]
    return data


def _byte_level(kind: TokenizerKind, tokenizer: Tokenizer) -> dict[str, Any]:
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if kind.digits else []
    if kind.pattern != "gpt2":
        steps.append(pre_tokenizers.Split(Regex(kind.pattern or ""), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind.pattern == "gpt2"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]  # type: ignore[assignment]
    data = _learn(kind, tokenizer, kind.first, sorted(pre_tokenizers.ByteLevel.alphabet()))
    step = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    data["decoder"] = step
    data["post_processor"] = {**step, "trim_offsets": False}
    data["normalizer"] = {"type": "NFC"} if kind.nfc else None
    data["model"] |= {"ignore_merges": kind.ignore_merges}
    return data


def _sentencepiece(kind: TokenizerKind, tokenizer: Tokenizer) -> dict[str, Any]:
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if kind.prefix else "never")  # type: ignore[assignment]
    data = _learn(kind, tokenizer, (*kind.first, *BYTES), [])
    space = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    data["normalizer"] = space
    data["pre_tokenizer"] = None
    if kind.prefix:
        data["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, space]}
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    data["decoder"] = {"type": "Sequence", "decoders": back}
    data["model"] |= {"byte_fallback": True, "fuse_unk": True}
    return data


def _template(parts: tuple[str, ...], data: dict[str, Any]) -> dict[str, Any]:
    numbers = {entry["content"]: entry["id"] for entry in data["added_tokens"]}
    single: list[dict[str, Any]] = [
        {"Sequence": {"id": "A", "type_id": 0}} if part == "$A" else {"SpecialToken": {"id": part, "type_id": 0}}
        for part in parts
    ]
    special = {
        part: {"id": part, "ids": [numbers[part]], "tokens": [part]} for part in dict.fromkeys(parts) if part != "$A"
    }
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
