"""How to feed any target token to a drafter of another tokenizer: the drafter ids that spell exactly its bytes.

A verified token has to enter the drafter's context whether or not the drafter could have proposed it. Each token is
re-encoded on its own, byte for byte, so what was fed never has to be taken back; the drafter's prefix may then be a
segmentation its tokenizer would not choose, which costs acceptance and never correctness.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.vocab.alignment import match
from drafters.vocab.one_vocabulary import counterparts, same_vocabulary
from drafters.vocab.spelling import Scheme, Spelling, scheme, spelling


@dataclass(frozen=True)
class FeedTable:
    """Ragged table: the drafter ids of target token t are ``ids[offsets[t]:offsets[t + 1]]``.

    ``unspelled`` are the target ids that stand for text which no run of drafter tokens spells (a character tokenizer
    without byte tokens): they have an empty row, as specials without a counterpart and padding have. ``specials`` are
    the target ids that go by their counterpart or not at all, never as the letters of their names.
    """

    offsets: Tensor  # int64 (V+1,)
    ids: Tensor  # int64 (n,)
    unspelled: Tensor  # int64 (u,) ascending
    specials: frozenset[int] = frozenset()

    def row(self, token: int) -> Tensor:
        """The drafter ids of one target token, int64 (k,), empty where it cannot be fed."""
        return self.ids[int(self.offsets[token]) : int(self.offsets[token + 1])]


def feed_table(
    target_tokenizer: PreTrainedTokenizerBase,
    drafter_tokenizer: PreTrainedTokenizerBase,
    target_vocabulary: int,
    drafter_vocabulary: int,
) -> FeedTable:
    """The feed table of a pair with V and D logit rows; for one shared tokenizer every id is fed as itself.

    A token is fed as the one drafter token with its bytes; else as the drafter tokenizer's own segmentation of them,
    checked byte for byte; else as the fewest tokens that spell them; a special as its counterpart. Raises
    TokenizerMismatch.
    """
    target, drafter = spelling(target_tokenizer, target_vocabulary), spelling(drafter_tokenizer, drafter_vocabulary)
    specials = frozenset(t for t, token in enumerate(target.token) if token is not None and target.text[t] is None)
    if same_vocabulary(target, drafter):
        return _ragged([[t] if t < drafter_vocabulary else [] for t in range(target_vocabulary)], [], specials)
    known = counterparts(target, drafter)
    speller = Speller(drafter, scheme(drafter_tokenizer), getattr(drafter_tokenizer, "backend_tokenizer", None))
    rows, unspelled = [], []
    for t, text in enumerate(target.text):
        if text is None or t in known:
            rows.append([known[t]] if t in known else [])
            continue
        spelled = speller.spell(text, target.token[t])
        if spelled is None:
            unspelled.append(t)
        rows.append(spelled or [])
    return _ragged(rows, unspelled, specials | known.keys())


def _ragged(rows: list[list[int]], unspelled: list[int], specials: frozenset[int]) -> FeedTable:
    lengths = torch.tensor([0, *map(len, rows)], dtype=torch.int64)
    ids = torch.tensor([i for row in rows for i in row], dtype=torch.int64)
    return FeedTable(lengths.cumsum(0), ids, torch.tensor(unspelled, dtype=torch.int64), specials)


class Speller:
    """Spells bytes with one vocabulary's ordinary tokens."""

    def __init__(self, spelled: Spelling, how: Scheme, backend: object = None):
        """``backend`` is the `tokenizers` tokenizer whose own model segments first, None for a slow tokenizer."""
        self.spelled, self.how, self.backend = spelled, how, backend
        self.ids = spelled.ids()
        self.longest = max(map(len, self.ids), default=0)

    def spell(self, text: bytes, token: str | None = None) -> list[int] | None:
        """Ids whose bytes join to ``text`` (``token``: its string elsewhere, a tie-break), None where none do."""
        if candidates := self.ids.get(text):
            return [match(token, candidates, self.spelled)]
        return self._own(text) or self.fewest(text)

    def _own(self, text: bytes) -> list[int] | None:
        """The tokenizer's own segmentation, None where it is not exact (dropped characters, unk, invalid UTF-8)."""
        written = self.how.written(text)
        if self.backend is None or written is None:
            return None
        ids = [piece.id for piece in self.backend.model.tokenize(written)]  # type: ignore[attr-defined]
        texts = [self.spelled.text[i] for i in ids]
        return ids if b"".join(t or b"" for t in texts) == text and None not in texts else None

    def fewest(self, text: bytes) -> list[int] | None:
        """The fewest tokens that spell ``text``, the longest first among equals: a shortest path over its bytes."""
        best: list[list[int] | None] = [None] * len(text) + [[]]  # best[k] spells text[k:]
        for start in reversed(range(len(text))):
            for end in range(min(len(text), start + self.longest), start, -1):
                rest, here = best[end], self.ids.get(text[start:end])
                if rest is None or here is None:
                    continue
                if best[start] is None or len(rest) + 1 < len(best[start] or []):
                    best[start] = [here[0], *rest]
        return best[0]
