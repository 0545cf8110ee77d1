"""Tokenizer surgery: a smaller tokenizer that spells every text of kept tokens exactly as the full one does.

A byte-pair vocabulary cannot just lose entries: a token whose parts are gone is never formed again. So the kept set is
closed first over the *derivation* of each token, the sequence of merges by which the full tokenizer forms it. Within the
span of one token no merge of a longer text differs from the token's own derivation (a merge across its border would
have made another token), so a text whose full encoding holds kept tokens only gets the same encoding from the small
tokenizer. For Unigram and WordPiece the same holds without a closure: the best (longest) segmentation is still there,
and every other candidate was a worse one before.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from drafters.errors import DraftersError
from drafters.vocab.spelling import FALLBACK, byte_alphabet

PLACEHOLDER = "<|pruned|>"
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
CARRIED = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "model_input_names")


class SurgeryError(DraftersError):
    """A tokenizer that cannot be made smaller."""


@dataclass(frozen=True)
class SmallTokenizer:
    """A smaller tokenizer: its id i is the old id ``ids[i]``, and after those comes the placeholder, if it has one."""

    tokenizer: PreTrainedTokenizerFast
    ids: Tensor  # int64 (n,) ascending old ids
    placeholder: bool  # row n stands for all tokens that are gone: what a reader feeds for a token it does not find


def shrink(
    tokenizer: PreTrainedTokenizerBase, kept: Iterable[int], placeholder: bool = True, rows: int | None = None
) -> SmallTokenizer:
    """The tokenizer reduced to ``kept`` and whatever it cannot do without.

    Always kept besides: derivations of byte-pair tokens, the 256 byte tokens (as an alphabet or as ``<0x00>`` to
    ``<0xFF>``), unk, and every special and added token. Without an unk of its own (or where unk is the end of text,
    which a reader would feed in the middle of one) the result has `PLACEHOLDER` as its last id, unless ``placeholder``
    is False: then its tokens are a subset of the full tokenizer's. Added tokens beyond the model's ``rows`` are left out.

    Raises:
        SurgeryError: no fast tokenizer, or a model type or affix rule that is not supported.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise SurgeryError(f"{tokenizer.name_or_path!r} has no tokenizer.json: save it once as a fast tokenizer")
    data = json.loads(backend.to_str())
    data["added_tokens"] = [entry for entry in data["added_tokens"] if rows is None or entry["id"] < rows]
    vocabulary = _vocabulary(data["model"], tokenizer)
    ids = _closure(data, vocabulary, set(kept), tokenizer)
    new = {old: row for row, old in enumerate(ids)}
    _renumber(data, new)
    placeholder = placeholder and (tokenizer.unk_token_id is None or tokenizer.unk_token_id == tokenizer.eos_token_id)
    if placeholder:
        data["added_tokens"].append(_added(len(ids)))
    small = _open(data, tokenizer, placeholder)
    return SmallTokenizer(small, torch.tensor(ids, dtype=torch.int64), placeholder)


def derivation(token: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Every symbol that byte-pair encoding holds on its way from the characters of ``token`` to its last state."""
    parts = list(token)
    seen = list(parts)
    while len(parts) > 1:
        pairs = [(ranks.get(pair, len(ranks)), place) for place, pair in enumerate(pairwise(parts))]
        rank, place = min(pairs)  # the lowest rank; of equal ones the leftmost, as tokenizers does
        if rank == len(ranks):
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
        seen.append(parts[place])
    return seen


def _vocabulary(model: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Token -> id of the model proper, added tokens aside."""
    kind = model.get("type") or ("BPE" if "merges" in model else None)  # GPT-2's old file names no type
    if kind == "BPE" and (model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")):
        raise SurgeryError(
            f"{tokenizer.name_or_path!r} marks the ends of words inside its byte pairs, which full pruning does not "
            "support: export form=padded, or use the package itself (its head is pruned, its tokenizer whole)"
        )
    if kind in ("BPE", "WordPiece", "WordLevel"):
        return dict(model["vocab"])
    if kind == "Unigram":
        return {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    raise SurgeryError(
        f"{tokenizer.name_or_path!r} is a {kind} tokenizer; expected BPE, Unigram, WordPiece or WordLevel"
    )


def _closure(
    data: dict[str, Any], vocabulary: dict[str, int], kept: set[int], tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Ascending old ids of everything that stays."""
    model = data["model"]
    added = {entry["id"] for entry in data["added_tokens"]}
    known = added | set(vocabulary.values())
    if strange := sorted(kept - known):
        raise SurgeryError(
            f"the kept ids {strange[:5]} are not in the tokenizer {tokenizer.name_or_path!r} of {len(known):,} tokens: "
            "it belongs to another model; check pair.drafter"
        )
    stay = kept | added | {number for token, number in vocabulary.items() if FALLBACK.fullmatch(token)}
    stay |= {vocabulary[letter] for letter in byte_alphabet() if _byte_level(data) and letter in vocabulary}
    stay |= {number for number in tokenizer.all_special_ids if number in known}
    if isinstance(model.get("unk_id"), int):
        stay.add(model["unk_id"])
    if (unknown := model.get("unk_token")) in vocabulary:
        stay.add(vocabulary[unknown])
    if "merges" in model:
        ranks = {pair: rank for rank, pair in enumerate(_merges(model))}
        spelled = {number: token for token, number in vocabulary.items()}
        for number in sorted(stay & set(spelled)):
            stay.update(vocabulary[part] for part in derivation(spelled[number], ranks) if part in vocabulary)
    return sorted(stay)


def _byte_level(data: Mapping[str, Any]) -> bool:
    """Whether token strings are written in the byte-level alphabet."""
    return any('"ByteLevel"' in json.dumps(data.get(part)) for part in ("pre_tokenizer", "decoder"))


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    return [(left, right) for left, right in pairs]


def _renumber(data: dict[str, Any], new: dict[int, int]) -> None:
    """Drop what is gone from a ``tokenizer.json`` and give the rest its new ids, in place."""
    model = data["model"]
    if isinstance(model["vocab"], list):  # Unigram: an id is a place in the list
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new]
        if isinstance(model.get("unk_id"), int):
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {token: new[number] for token, number in model["vocab"].items() if number in new}
    if "merges" in model:
        left = model["vocab"]
        pairs = _merges(model)
        model["merges"] = [[a, b] for a, b in pairs if a in left and b in left and a + b in left]
    for entry in data["added_tokens"]:
        entry["id"] = new[entry["id"]]
    if isinstance(data.get("padding"), dict):
        data["padding"]["pad_id"] = new.get(data["padding"]["pad_id"], 0)
    _renumber_processor(data.get("post_processor"), new)


def _renumber_processor(step: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Ids inside a post-processor: templates, and BERT's and RoBERTa's ``[token, id]`` pairs."""
    if step is None:
        return
    for inner in step.get("processors", []):
        _renumber_processor(inner, new)
    if step["type"] == "TemplateProcessing":
        for entry in step["special_tokens"].values():
            entry["ids"] = [new[number] for number in entry["ids"]]
    for role in ("sep", "cls"):
        if isinstance(step.get(role), list):
            step[role] = [step[role][0], new[step[role][1]]]


def _added(number: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": PLACEHOLDER, "special": True, **flags}


def _open(data: dict[str, Any], full: PreTrainedTokenizerBase, placeholder: bool) -> PreTrainedTokenizerFast:
    """The reduced backend with the full tokenizer's roles and chat template."""
    roles = {role: str(token) for role in ROLES if (token := getattr(full, role)) is not None}
    if placeholder:
        roles["unk_token"] = PLACEHOLDER
    carried = {name: value for name in CARRIED if (value := getattr(full, name, None)) is not None}
    small = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(data)), **roles, **carried)
    small.chat_template = full.chat_template
    return small
