"""What every token of a tokenizer spells: the bytes its own decoder writes, from the vocabulary table alone.

Two tokenizers can be compared only by bytes: the same text is ``Ġhello`` in a byte-level alphabet, ``▁hello`` in a
SentencePiece one, and a stray byte is ``Ã`` in the first and ``<0xC3>`` in the second.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from drafters.errors import DraftersError
from drafters.vocab.protected import turn_markers

FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenizerMismatch(DraftersError):
    """A tokenizer that cannot belong to the model (or to any model: its decoder is unknown)."""


@dataclass(frozen=True)
class Spelling:
    """What each id of one model's vocabulary stands for; all tuples have one entry per logit row.

    ``token`` is the vocabulary string, None for holes and for the padded tail. ``text`` is the bytes of an ordinary
    token, None for holes, padding and special tokens, which have a role and no text; special is what the tokenizer says
    is, and what its chat template writes around turns. ``fallback`` holds the ids of SentencePiece byte tokens;
    ``bos`` and ``eos`` the ids of these roles, ``silent`` those of pad and unk, which no model says.
    ``added`` are the tokens beside the vocabulary that the tokenizer was trained with, special or not.
    """

    token: tuple[str | None, ...]
    text: tuple[bytes | None, ...]
    fallback: frozenset[int]
    bos: int | None
    eos: int | None
    added: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()

    def order(self, token_id: int) -> tuple[bool, int]:
        """Sort key among ids with the same bytes: a byte token is what a tokenizer uses when nothing else fits."""
        return token_id in self.fallback, token_id

    def ids(self) -> dict[bytes, list[int]]:
        """Bytes to all ids that spell them, in `order`."""
        table: dict[bytes, list[int]] = {}
        for token_id, text in enumerate(self.text):
            if text is not None:
                table.setdefault(text, []).append(token_id)
        return {text: sorted(ids, key=self.order) for text, ids in table.items()}


@cache
def byte_alphabet() -> dict[str, int]:
    """The 256 printable characters of GPT-2's byte-level alphabet, character to byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if chr(byte) not in table]
    return table | {chr(256 + n): byte for n, byte in enumerate(others)}


@cache
def _letters() -> dict[int, str]:
    return {byte: letter for letter, byte in byte_alphabet().items()}


def _steps(component: Any) -> list[dict]:
    """A `tokenizers` decoder or pre-tokenizer as its flat list of JSON steps."""
    if component is None:
        return []
    step = json.loads(component.__getstate__())
    return [inner for key in ("decoders", "pretokenizers") for inner in step.get(key, [])] or [step]


@dataclass(frozen=True)
class Scheme:
    """How a tokenizer writes text as token strings. ``space`` is its word sign, ``suffix`` its end-of-word mark."""

    byte_level: bool = False
    byte_fallback: bool = False
    space: str | None = None
    continuation: str | None = None
    suffix: str | None = None

    def text(self, token: str) -> bytes:
        """The bytes of one vocabulary string."""
        if self.byte_level:
            alphabet = byte_alphabet()
            # An added token may hold characters outside the alphabet: the decoder then writes it as it stands.
            return bytes(alphabet[c] for c in token) if all(c in alphabet for c in token) else token.encode()
        if self.byte_fallback and (byte := FALLBACK.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        if self.continuation is not None:
            head = self.continuation
            return token.removeprefix(head).encode() if token.startswith(head) else b" " + token.encode()
        if self.suffix and token.endswith(self.suffix):
            token = token.removesuffix(self.suffix) + " "
        return (token.replace(self.space, " ") if self.space else token).encode()

    def written(self, text: bytes) -> str | None:
        """The inverse of `text` for a run of bytes, None where the scheme cannot write it as one string."""
        if self.byte_level:
            return "".join(_letters()[byte] for byte in text)
        if self.continuation is not None or self.suffix:
            return None
        try:
            plain = text.decode()
        except UnicodeDecodeError:
            return None
        return plain.replace(" ", self.space) if self.space else plain


def scheme(tokenizer: PreTrainedTokenizerBase) -> Scheme:
    """Read the scheme off the tokenizer's decoder (its pre-tokenizer where it has none).

    Raises TokenizerMismatch for a decoder whose text cannot be told token by token.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a slow tokenizer: SentencePiece or a byte table says so by its attributes
        sentencepiece = hasattr(tokenizer, "sp_model")
        return Scheme(
            byte_level=hasattr(tokenizer, "byte_decoder"),
            byte_fallback=sentencepiece,
            space="▁" if sentencepiece else None,
        )
    found: dict = {}
    for step in _steps(backend.decoder) or _steps(backend.pre_tokenizer):
        reader = _READERS.get(step["type"])
        if reader is None and backend.decoder is not None:
            raise TokenizerMismatch(
                f"decoder step {step['type']!r} of {tokenizer.name_or_path!r} is not known; known steps: "
                f"{sorted(_READERS)}. Its tokens cannot be compared with another tokenizer's: use a pair that shares it"
            )
        found |= reader(step) if reader else {}
    if getattr(backend.model, "byte_fallback", False):
        found["byte_fallback"] = True
    return Scheme(**found)


def _replace(step: dict) -> dict:
    sign = step["pattern"].get("String")
    return {"space": sign} if sign and step["content"] == " " else {}


_READERS: dict[str, Callable[[dict], dict]] = {
    "ByteLevel": lambda step: {"byte_level": True},
    "ByteFallback": lambda step: {"byte_fallback": True},
    "Metaspace": lambda step: {"space": step["replacement"]},
    "Replace": _replace,
    "WordPiece": lambda step: {"continuation": step["prefix"]},
    "BPEDecoder": lambda step: {"suffix": step["suffix"]},
    "Fuse": lambda step: {},
    "Strip": lambda step: {},  # strips the dummy space before a text's first word, not a token's own
}


def spelling(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Spelling:
    """The `Spelling` of a model with ``vocabulary`` logit rows, the same for every iteration order of `get_vocab()`.

    Raises TokenizerMismatch when the tokenizer has an id that the model has no row for.
    """
    known = sorted((token_id, token) for token, token_id in tokenizer.get_vocab().items())
    check_rows(tokenizer, vocabulary)
    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids) | turn_markers(tokenizer)
    special |= {token_id for token_id, token in added.items() if token.special}
    how = scheme(tokenizer)
    token: list[str | None] = [None] * vocabulary
    text: list[bytes | None] = [None] * vocabulary
    for token_id, string in known:
        if token_id >= vocabulary:  # see `without_row`
            break
        token[token_id] = string
        text[token_id] = None if token_id in special else how.text(string) or None
    fallback = (
        i for i, s in known if i < vocabulary and how.byte_fallback and i not in special and FALLBACK.fullmatch(s)
    )
    ids = frozenset(token_id for token_id in added if token_id < vocabulary)
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    silent = {tokenizer.pad_token_id, tokenizer.unk_token_id} - {None, eos, bos}
    return Spelling(tuple(token), tuple(text), frozenset(fallback), bos, eos, ids, frozenset(silent))


def check_rows(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    """Raise TokenizerMismatch unless every id of the tokenizer, but those of `without_row`, has one of the model's rows."""
    out = without_row(tokenizer, vocabulary)
    used = max((token_id for token_id in tokenizer.get_vocab().values() if token_id not in out), default=-1) + 1
    if used > vocabulary:
        raise TokenizerMismatch(
            f"the tokenizer {tokenizer.name_or_path!r} uses ids up to {used - 1:,}, expected all below the model's "
            f"vocabulary of {vocabulary:,} rows. It belongs to another model: check pair.target and pair.drafter"
        )


def without_row(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> dict[int, str]:
    """Added tokens, id to name, that the model has no row for (Gemma 3 1B's for images): no ordinary text reaches them."""
    added = tokenizer.added_tokens_decoder
    return {token_id: token.content for token_id, token in sorted(added.items()) if token_id >= vocabulary}
