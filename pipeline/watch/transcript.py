"""Tokens as text that can be shown at once: characters whole, and nothing that a terminal would obey."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

INCOMPLETE = "\ufffd"  # what a decoder writes for bytes that are no character (yet)
BEHIND = 8  # tokens of context: some decoders write a token's space only behind another one
# Control characters are shown by their pictures: a model's text must not move the cursor or recolour the screen.
PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
PICTURES |= dict.fromkeys(range(127, 160), INCOMPLETE)


@dataclass
class Transcript:
    """A text that grows by tokens. What is no whole character yet is held until a later token completes it."""

    tokenizer: PreTrainedTokenizerBase
    _ids: list[int] = field(default_factory=list)  # context, shown tokens, held tokens
    _shown: int = 0

    @classmethod
    def behind(cls, tokenizer: PreTrainedTokenizerBase, prompt: Iterable[int]) -> Transcript:
        """The text that follows a prompt of these ids."""
        context = list(prompt)[-BEHIND:]
        return cls(tokenizer, context, len(context))

    def add(self, token: int) -> str:
        """The text that this token completes, "" where characters are still in pieces; special tokens are silent."""
        self._ids.append(token)
        text = self._fresh()
        if text.endswith(INCOMPLETE):
            return ""
        self._ids, self._shown = self._ids[-BEHIND:], len(self._ids[-BEHIND:])
        return text

    def rest(self) -> str:
        """What the text ended within: bytes of a character that never came, as its decoder writes them."""
        text, self._shown = self._fresh(), len(self._ids)
        return text

    def _fresh(self) -> str:
        before, whole = self._text(self._ids[: self._shown]), self._text(self._ids)
        return whole[len(before) :].translate(PICTURES)

    def _text(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)
