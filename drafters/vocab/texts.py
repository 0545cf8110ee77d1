"""What the ids of a pair spell, so that one model's tokens can be handed to the other as text: byte by byte, never id by id.

String-level samplers (Timor et al. 2025, arXiv 2502.05202, algorithms 2 and 3) draft in the drafter's own tokens and verify in
the target's. Tokenizers normalise, add spaces and merge across boundaries, so every hand-over here is checked by bytes, and
target ids that are already part of the text are never tokenised again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.vocab.feed import Speller
from drafters.vocab.one_vocabulary import counterparts
from drafters.vocab.spelling import Scheme, Spelling, scheme, spelling

LOOKBEHIND = 16  # target tokens of context that a continuation is tokenised with


@dataclass(frozen=True, eq=False)
class Texts:
    """Both vocabularies' spellings and how the target's tokenizer reads text.

    ``drafter`` spells drafter ids; ``rows`` int64 (D,) is the drafter id of each row of its head. ``encode`` is the
    target tokenizer's whole pipeline without its opening and closing specials.
    """

    target: Spelling
    drafter: Spelling
    rows: Tensor
    encode: Callable[[str], list[int]]
    to_target: Speller
    to_drafter: Speller

    @cached_property
    def first(self) -> Tensor:
        """int64 (D,): the first target token of each head row's text, -1 where it has none (one table per pair)."""
        return torch.tensor([self._first(drafter_id) for drafter_id in self.rows.tolist()], dtype=torch.int64)

    def _first(self, drafter_id: int) -> int:
        text = self.drafter.text[drafter_id]
        if text is None:
            return self.role(drafter_id)
        if same := self.to_target.ids.get(text):
            return same[0]
        spelled = self.continuation([], text)
        return spelled[0] if spelled else -1

    @cached_property
    def _specials(self) -> tuple[dict[int, int], dict[int, int]]:
        """`counterparts` of the drafter's specials, and of the target's."""
        return counterparts(self.drafter, self.target), counterparts(self.target, self.drafter)

    def role(self, drafter_id: int) -> int:
        """The target special that a drafter special stands for, -1 for any other id."""
        return self._specials[0].get(drafter_id, -1)

    def continuation(self, context: list[int], text: bytes) -> list[int]:
        """Target ids of ``text`` behind the target ids ``context``, tokenised together with its tail, aligned by bytes.

        Bytes that are not (yet) whole characters are held back: [] if none is. Where a token would straddle the end of
        the context it is split there.
        """
        window = self._window(context)
        whole = _whole(window + text)
        if len(whole) > len(window) and (ids := self._read(whole, len(window))) is not None:
            return ids
        # A token straddles the end of the context, or the tokenizer does not write these bytes back: the text alone.
        text = whole[len(window) :] if len(whole) >= len(window) else _whole(text)
        if not text:
            return []
        ids = self._read(text, 0)
        return ids if ids is not None else self.to_target.spell(text) or []

    def _window(self, context: list[int]) -> bytes:
        """The bytes of the last ordinary tokens of the context, from the beginning of a character on."""
        texts: list[bytes] = []
        for token in reversed(context[-LOOKBEHIND:]):
            text = self.target.text[token]
            if text is None:
                break
            texts.append(text)
        while texts and texts[-1][0] & 0xC0 == 0x80:  # inside a character
            texts.pop()
        return b"".join(reversed(texts))

    def _read(self, data: bytes, begin: int) -> list[int] | None:
        """Target ids of ``data[begin:]`` in the tokenizer's reading of the whole, None where no token begins there."""
        try:
            ids = self.encode(data.decode())
        except UnicodeDecodeError:
            return None
        texts = [self.target.text[i] for i in ids]
        joined = b"".join(text or b"" for text in texts)
        added = len(joined) - len(data)  # SentencePiece puts a space before the first word
        if None in texts or joined != b" " * added + data or added > 1:
            return None
        starts = list(accumulate((len(text or b"") for text in texts), initial=-added))
        return ids[starts.index(begin) :] if begin in starts else None

    def stream(self, drafted: list[int], tokens: list[int]) -> list[int]:
        """The drafter ids of the target ``tokens``, opening with as many of the ids ``drafted`` as spell them.

        What the drafter has read itself stays, so its cache does. Specials go by counterpart; what no drafter id spells is
        left out.
        """
        texts = [self.target.text[token] for token in tokens]
        ids: list[int] = []
        place = offset = 0  # the first token not wholly spelled yet, and how many of its bytes are
        for drafter_id in drafted:
            moved = self._advance(drafter_id, tokens, texts, place, offset)
            if moved is None:
                break
            place, offset = moved
            ids.append(drafter_id)
        return ids + self._rest(tokens[place:], texts[place:], offset)

    def _advance(
        self, drafter_id: int, tokens: list[int], texts: list[bytes | None], place: int, offset: int
    ) -> tuple[int, int] | None:
        """Where the tokens stand after one more drafter id, None where it does not spell what comes next."""
        text = self.drafter.text[drafter_id]
        if text is None:
            fits = offset == 0 and place < len(tokens) and texts[place] is None
            return (place + 1, 0) if fits and self.role(drafter_id) == tokens[place] else None
        while text:
            here = texts[place][offset:] if place < len(texts) and texts[place] is not None else b""  # type: ignore[index]
            shared = min(len(here), len(text))
            if not shared or here[:shared] != text[:shared]:
                return None
            text, offset = text[shared:], offset + shared
            if shared == len(here):
                place, offset = place + 1, 0
        return place, offset

    def _rest(self, tokens: list[int], texts: list[bytes | None], offset: int) -> list[int]:
        """Ids of the remaining tokens: runs of text as one, specials by counterpart."""
        ids: list[int] = []
        run: list[bytes] = []

        def flush() -> None:
            whole = self.to_drafter.spell(b"".join(run)) if run else []
            ids.extend(whole if whole is not None else [i for text in run for i in self.to_drafter.spell(text) or []])
            run.clear()

        for token, text in zip(tokens, texts, strict=True):
            if text is not None:
                run.append(text[offset:])
                offset = 0
                continue
            flush()
            ids.extend([self._specials[1][token]] if token in self._specials[1] else [])
        flush()
        return ids


def _whole(data: bytes) -> bytes:
    """The longest prefix that is valid UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start]
    return data


def read_texts(
    target_tokenizer: PreTrainedTokenizerBase,
    drafter_tokenizer: PreTrainedTokenizerBase,
    target_vocabulary: int,
    drafter_vocabulary: int,
    kept: Tensor | None = None,
) -> Texts:
    """The `Texts` of a pair with V and D_full ids; ``kept`` int64 (D,): ids of the head's rows, None = all.

    Raises TokenizerMismatch.
    """
    target, drafter = spelling(target_tokenizer, target_vocabulary), spelling(drafter_tokenizer, drafter_vocabulary)

    def speller(spelled: Spelling, tokenizer: PreTrainedTokenizerBase) -> Speller:
        return Speller(spelled, scheme(tokenizer), getattr(tokenizer, "backend_tokenizer", None))

    def encode(text: str) -> list[int]:
        return target_tokenizer.encode(text, add_special_tokens=False)

    rows = torch.arange(drafter_vocabulary) if kept is None else kept.cpu()
    return Texts(target, drafter, rows, encode, speller(target, target_tokenizer), speller(drafter, drafter_tokenizer))


def spelled_texts(target: Spelling, drafter: Spelling, rows: Tensor | None = None) -> Texts:
    """`Texts` of two bare vocabularies: both read text as the fewest of their tokens."""
    ours, theirs = Speller(target, Scheme()), Speller(drafter, Scheme())

    def encode(text: str) -> list[int]:
        return ours.fewest(text.encode()) or []

    return Texts(target, drafter, torch.arange(len(drafter.text)) if rows is None else rows, encode, ours, theirs)
