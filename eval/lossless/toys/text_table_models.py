"""Table pairs whose tokens spell something, so that string-level samplers have text to hand over."""

from __future__ import annotations

from collections.abc import Sequence

from drafters.vocab.alignment import align_spellings
from drafters.vocab.spelling import Spelling
from drafters.vocab.texts import spelled_texts
from eval.lossless.toys.table_models import Table, TablePair

END = "</s>"


def spelled(words: Sequence[str]) -> Spelling:
    """A vocabulary of these texts; END is its closing special."""
    text = tuple(None if word == END else word.encode() for word in words)
    return Spelling(tuple(words), text, frozenset(), bos=None, eos=words.index(END) if END in words else None)


def worded_pair(target: Sequence[str], drafter: Sequence[str], seed: int) -> TablePair:
    """V and D tokens with these texts; both models end a text with END. What a token is fed as is spelled, too."""
    ours, theirs = spelled(target), spelled(drafter)
    texts = spelled_texts(ours, theirs)
    return TablePair(
        Table.random(len(target), seed),
        Table.random(len(drafter), seed + 1),
        align_spellings(ours, theirs),
        eos=() if ours.eos is None else (ours.eos,),
        spelling=tuple(tuple(texts.stream([], [token])) for token in range(len(target))),
        texts=lambda: texts,
    )


def many_to_one_pair(seed: int) -> TablePair:
    """V = 4, D = 6: "ba" begins with "b", "b" stands twice, "c" is a miss, and "ab" is fed as two drafter ids."""
    return worded_pair([END, "a", "b", "ab"], ["a", "b", "ba", "c", "b", END], seed)


def short_drafter_pair(seed: int) -> TablePair:
    """V = 5, D = 3: "aab" begins with the target's "a", and the drafter cannot end a text."""
    return worded_pair([END, "a", "b", "bb", "ba"], ["b", "aab", "bbb"], seed)
