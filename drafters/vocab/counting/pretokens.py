"""Where a text may be cut without changing the tokens it gets: the proof obligations behind fast exact counting.

A tokenizer is *local* when its tokens come from pieces that do not see each other. Counting distinct pieces and
encoding each once then gives exactly the counts of plain encoding. Two families are recognised; anything else is
refused with a reason (`NotLocal`) and the caller encodes plainly:

* **byte-level BPE** (GPT-2, NeoX, StarCoder, Llama 3, Qwen, o200k): the pieces are the matches of the pre-tokenizer's
  regular expression. On ASCII text that expression is translated, class by class, to Python's ``re``, which runs at C
  speed. Text with other characters is first cut at every ``graphic character | space`` (see `space_leads`).
* **SentencePiece-style BPE** (Llama 2, Gemma): no pre-tokenizer. A cut is exact where no merge can cross it, which is
  read off the merges: before a space mark when no merged token holds one after another character, and around a
  character that no merge touches.
"""

import copy
import json
import re
from dataclasses import dataclass

from drafters.vocab.counting.pretoken_regex import (
    GPT2,
    GPT2_AFTER_DIGITS,
    GRAPHIC,
    SENTINEL,
    NotLocal,
    ascii_pattern,
    space_leads,
)

MARK = "\u2581"  # SentencePiece's visible space

# A first character, then everything up to a space that follows a graphic character.
_SPACE_LED = rf"[\s\S][^ ]*(?:(?<![{GRAPHIC}]) +[^ ]*)*"


@dataclass(frozen=True)
class EncodingPlan:
    """How to cut a text exactly for one tokenizer. Plain data throughout, so that it travels to worker processes."""

    family: str  # "byte-level" | "sentencepiece"
    pieces: str  # `re` pattern whose matches are the pieces of a text (byte-level: of ASCII text)
    words: str | None  # coarser cut that holds for any text; None: such texts are encoded plainly
    prefix: str  # "" | "space" (unless the text starts with one) | "always"
    added: tuple[str, ...]  # `re` patterns of the added tokens, in the order the tokenizer looks for them
    plainly: str  # `re` pattern: a text in which it occurs is encoded plainly
    inner: str  # tokenizer.json that encodes one piece: no added tokens, no splitting, no prefix


def plan(tokenizer_json: str) -> EncodingPlan:
    """Read a `tokenizer.json` text and prove how its input may be cut.

    Raises:
        NotLocal: with the part of the tokenizer that is not known to be local.
    """
    spec = json.loads(tokenizer_json)
    model = spec["model"]
    if model["type"] != "BPE":
        raise NotLocal(f"model {model['type']} (only BPE is proven)")
    if model.get("dropout"):
        raise NotLocal("BPE dropout makes encoding random")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise NotLocal("BPE with a subword prefix or suffix")
    stages = _flatten(spec.get("pre_tokenizer"), "pretokenizers")
    if stages and stages[-1]["type"] == "ByteLevel":
        return _byte_level(spec, stages)
    return _sentencepiece(spec, stages)


def _flatten(stage: dict | None, key: str) -> list[dict]:
    """A pre-tokenizer or normalizer as the list of its steps."""
    if stage is None:
        return []
    return list(stage[key]) if stage["type"] == "Sequence" else [stage]


def _byte_level(spec: dict, stages: list[dict]) -> EncodingPlan:
    for step in _flatten(spec.get("normalizer"), "normalizers"):
        # ASCII is unchanged by these, and a space is a boundary of canonical composition
        if step["type"] not in ("NFC", "NFD"):
            raise NotLocal(f"normalizer {step['type']}")
    pattern, last = _split_pattern(stages), stages[-1]
    prefix = "space" if last.get("add_prefix_space") else ""
    if prefix and len(stages) > 1:
        raise NotLocal("a prefix space before every split")
    inner = _inner(spec, None, {**last, "add_prefix_space": False, "use_regex": False})
    words = _SPACE_LED if space_leads(pattern) else None
    added, plainly = _added_tokens(spec, bool(prefix))
    return EncodingPlan("byte-level", ascii_pattern(pattern), words, prefix, added, plainly, inner)


def _split_pattern(stages: list[dict]) -> str:
    """The regular expression whose matches are the pre-tokens."""
    *before, last = stages
    if last.get("use_regex", True):
        if not before:
            return GPT2
        if before == [{"type": "Digits", "individual_digits": True}]:
            return GPT2_AFTER_DIGITS
    elif len(before) == 1 and before[0]["type"] == "Split":
        split = before[0]
        if "Regex" in split["pattern"] and split["behavior"] == "Isolated" and not split["invert"]:
            return split["pattern"]["Regex"]
    raise NotLocal("pre-tokenizer " + " + ".join(stage["type"] for stage in stages))


def _added_tokens(spec: dict, prefixed: bool) -> tuple[tuple[str, ...], str]:
    """Patterns of the added tokens (raw-text ones first, as the tokenizer does) and of those that need plain encoding.

    With a prefix, each piece between added tokens gets its own, so any added token sends its text to plain encoding. So
    do tokens that reach over their neighbours (strip flags, whole-word ones), span a graphic character and a space, or
    are looked for in normalized text that differs from the text itself.
    """
    changed = any(step["type"] in ("Prepend", "Replace") for step in _flatten(spec.get("normalizer"), "normalizers"))
    phases: dict[bool, list[str]] = {False: [], True: []}
    plainly = [re.escape(SENTINEL)]
    for token in spec.get("added_tokens", []):
        content, normalized = token["content"], token["normalized"]
        if normalized and spec.get("normalizer") and not content.isascii():
            raise NotLocal(f"added token {content!r} is normalized before it is looked for")
        reaches = token["lstrip"] or token["rstrip"] or token["single_word"]
        if normalized and changed:
            content = content.strip(" ")
            if not content or " " in content:
                raise NotLocal(f"added token {token['content']!r} is made of space marks")
            plainly.append(re.escape(content))
        elif prefixed or reaches or re.search(rf"[{GRAPHIC}] ", content) or SENTINEL in content:
            plainly.append(re.escape(content))
        else:
            phases[normalized].append(content)
    # longest first = leftmost-longest, the tokenizer's rule
    patterns = ["|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) for tokens in phases.values() if tokens]
    return tuple(patterns), "|".join(plainly)


def _sentencepiece(spec: dict, stages: list[dict]) -> EncodingPlan:
    model, normalizers = spec["model"], _flatten(spec.get("normalizer"), "normalizers")
    if model.get("ignore_merges"):
        raise NotLocal("whole-text vocabulary look-up without a pre-tokenizer")
    prefix, kept, replaced = "", [], False
    for step in normalizers:
        if step == {"type": "Prepend", "prepend": MARK}:
            prefix = "always"
        elif step == {"type": "Replace", "pattern": {"String": " "}, "content": MARK}:
            kept, replaced = [step], True
        else:
            raise NotLocal(f"normalizer {step['type']}")
    metaspace = None
    if len(stages) == 1 and stages[0]["type"] == "Metaspace" and stages[0]["replacement"] == MARK and not prefix:
        prefix = {"never": "", "always": "space", "first": "space"}[stages[0]["prepend_scheme"]]
        metaspace, replaced = {**stages[0], "prepend_scheme": "never"}, True
    elif stages and not (replaced and _never_matches(stages)):
        raise NotLocal("pre-tokenizer " + " + ".join(stage["type"] for stage in stages))
    if not replaced:
        raise NotLocal("no space mark: merges may cross words")
    normalizer = kept[0] if kept else None
    added, plainly = _added_tokens(spec, bool(prefix))
    return EncodingPlan(
        "sentencepiece", _unmerged(model), None, prefix, added, plainly, _inner(spec, normalizer, metaspace)
    )


def _never_matches(stages: list[dict]) -> bool:
    """Gemma splits at spaces after its normalizer has replaced every one of them."""
    return len(stages) == 1 and stages[0]["type"] == "Split" and stages[0]["pattern"] == {"String": " "}


def _unmerged(model: dict) -> str:
    """Pattern of the pieces that no merge can leave: space marks with what follows, and characters that never merge."""
    merged = {"".join(pair if isinstance(pair, list) else pair.split(" ")) for pair in model["merges"]}
    if MARK not in model["vocab"] or any(re.search(f"[^{MARK}]{MARK}", token) for token in merged):
        raise NotLocal("merges cross the start of a word")
    used, vocab = set("".join(merged)), model["vocab"]
    bytes_known = model.get("byte_fallback") and all(f"<0x{code:02X}>" in vocab for code in range(256))
    # an unknown character could fuse with an unknown neighbour: only known ones stand alone
    alone = [chr(code) for code in range(1, 128) if chr(code) not in used and chr(code) != " "]
    alone = [char for char in alone if char in vocab or (bytes_known and not any("<0x" in token for token in merged))]
    single = re.escape("".join(alone))
    run = f"[ {MARK}]+[^ {MARK}{SENTINEL}{single}]*|[^ {MARK}{SENTINEL}{single}]+"
    return f"[{single}]|{run}" if alone else run


def _inner(spec: dict, normalizer: dict | None, pre_tokenizer: dict | None) -> str:
    inner = copy.copy(spec) | {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return json.dumps(inner | {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer})
