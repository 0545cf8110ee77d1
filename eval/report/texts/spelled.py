"""Tokens as text: a character of several tokens stands at the one that completes it."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from drafters.vocab.spelling import TokenizerMismatch, spelling
from eval.report.texts.answer import MOST_SPELLED


@dataclass(frozen=True)
class TokenNames:
    """What every id of a model's vocabulary stands for."""

    texts: Sequence[bytes | None]  # (V,) the bytes of an ordinary token
    names: Sequence[str | None]  # (V,) the vocabulary's string

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> TokenNames:
        """Read them off a tokenizer; where its decoder is unknown, tokens have their names alone."""
        try:
            found = spelling(tokenizer, vocabulary)
        except TokenizerMismatch:
            known = {number: token for token, number in tokenizer.get_vocab().items()}
            return TokenNames([None] * vocabulary, [known.get(number) for number in range(vocabulary)])
        return TokenNames(found.text, found.token)

    def spelled(self, ids: Iterable[int]) -> list[tuple[str, str | None]]:
        """(what it adds to the text, its bytes in hexadecimal where they are no whole characters) of each token.

        Bytes that can never become a character are U+FFFD. A special token, which has no text, is its name.
        """
        reader, found = codecs.getincrementaldecoder("utf-8")("replace"), list[tuple[str, str | None]]()
        for number in ids:
            own = self.texts[number]
            if own is None:
                text = reader.decode(b"", final=True) + (self.names[number] or f"<{number}>")
                reader.reset()
            else:
                text = reader.decode(own)
            found.append((_cut(text), None if own is None else _raw(own)))
        return found

    def alone(self, number: int) -> tuple[str, str | None]:
        """`spelled` of one token with nothing before it, an incomplete character as U+FFFD."""
        own = self.texts[number]
        if own is None:
            return _cut(self.names[number] or f"<{number}>"), None
        return _cut(own.decode("utf-8", "replace")), _raw(own)


def _raw(own: bytes) -> str | None:
    try:
        own.decode()
    except UnicodeDecodeError:
        return own[:MOST_SPELLED].hex()
    return None


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SPELLED else f"{text[: MOST_SPELLED - 1]}\u2026"
