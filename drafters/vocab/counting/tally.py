"""Count the pieces of many texts, then encode each distinct piece once: the inner loop of exact token counting.

Free of torch on purpose: worker processes import this module only, and start in a fraction of a second.
"""

import re
from collections import Counter, defaultdict
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from drafters.vocab.counting.pretoken_regex import GRAPHIC, SENTINEL
from drafters.vocab.counting.pretokens import MARK, EncodingPlan

MAX_ENTRIES = 1_500_000  # distinct pieces held before they are encoded; with 8-byte pieces about 150 MB
MAX_CHARACTERS = 64_000_000  # held in pieces, looked at once per as many characters of text
BATCH = 100_000  # pieces per call of the tokenizer
JOINED = 5_000  # words per joined text

_JOINABLE = re.compile(rf" [\s\S]*[{GRAPHIC}]")


def well_formed(text: str) -> str:
    """The text with lone surrogates, which no encoder accepts, as U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def private_copy(tokenizer_json: str) -> Tokenizer:
    """A tokenizer of one's own that neither truncates nor pads, whatever its file says."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class Tally:
    """Token counts per domain, gathered piece by piece.

    Exact: equal to ``tokenizer.encode(text, add_special_tokens=False)`` of each text, summed. Bounded: however long the
    stream, about :data:`MAX_ENTRIES` pieces of together about :data:`MAX_CHARACTERS` are held.
    """

    def __init__(self, tokenizer: Tokenizer, plan: EncodingPlan, size: int):
        self.plan, self.size = plan, size
        self.counts: dict[str, np.ndarray] = {}  # domain -> int64 (size,)
        self.plain_texts = 0
        self._tokenizer = tokenizer
        self._inner = Tokenizer.from_str(plan.inner)
        self._pieces: dict[str, Counter[str]] = defaultdict(Counter)
        self._words: dict[str, Counter[str]] = defaultdict(Counter)
        self._added: dict[str, Counter[str]] = defaultdict(Counter)
        self._find_pieces = re.compile(plan.pieces).findall
        self._find_words = re.compile(plan.words).findall if plan.words else None
        self._find_added = [re.compile(pattern) for pattern in plan.added]
        self._is_plain = re.compile(plan.plainly).search
        self._unchecked = 0  # characters since the size of what is held was last looked at

    def extend(self, batch: list[tuple[str, str]]) -> None:
        """Count a batch of (domain, text)."""
        for domain, text in batch:
            self.add(domain, text)

    def add(self, domain: str, text: str) -> None:
        """Count one text (well formed, see :func:`well_formed`)."""
        if not text:
            return
        if self._is_plain(text):
            return self._add_plain(domain, text)
        if self.plan.prefix and not (self.plan.prefix == "space" and self._has_prefix(text)):
            text = " " + text
        if self.plan.family == "byte-level" and not text.isascii():
            if self._find_words is None:
                return self._add_plain(domain, text)
            words = self._find_words(text)
            self._words[domain].update([word for word in words if not word.isascii()])
            # what is left still meets at boundaries only: each word but the first starts with the space of its cut
            text = "".join([word for word in words if word.isascii()])
        for pattern in self._find_added:  # same order as the tokenizer; what one phase cut out, the next does not see
            if found := pattern.findall(text):
                self._added[domain].update(found)
                text = pattern.sub(SENTINEL, text)
        self._pieces[domain].update(self._find_pieces(text))
        self._bound(len(text))

    def finish(self) -> dict[str, np.ndarray]:
        """Encode what is still held and return the counts: domain -> int64 (size,)."""
        for tables, encode in (
            (self._pieces, self._encode_pieces),
            (self._words, self._encode_words),
            (self._added, self._encode_added),
        ):
            for domain, table in tables.items():
                encode(domain, table)
            tables.clear()
        return self.counts

    def _has_prefix(self, text: str) -> bool:
        return text[0] == " " or (self.plan.family == "sentencepiece" and text[0] == MARK)

    def _add_plain(self, domain: str, text: str) -> None:
        self.plain_texts += 1
        # the text as given: the tokenizer adds its own prefix
        self._accumulate(domain, self._tokenizer.encode(text, add_special_tokens=False).ids, 1)

    def _bound(self, added: int) -> None:
        """Encode what is held before it outgrows memory: too many pieces, or (looked at now and then) too long ones."""
        tables = [*self._pieces.values(), *self._words.values()]
        full = sum(map(len, tables)) > MAX_ENTRIES
        self._unchecked += added
        if self._unchecked > MAX_CHARACTERS:
            self._unchecked = 0
            full = full or sum(len(piece) for table in tables for piece in table) > MAX_CHARACTERS
        if full:
            self.finish()

    def _encode_pieces(self, domain: str, table: Counter[str]) -> None:
        pieces, counts = list(table), np.fromiter(table.values(), np.int64, len(table))
        for start in range(0, len(pieces), BATCH):
            encodings = self._inner.encode_batch_fast(pieces[start : start + BATCH], add_special_tokens=False)
            ids = list(chain.from_iterable(encoding.ids for encoding in encodings))
            self._accumulate(domain, ids, np.repeat(counts[start : start + BATCH], [len(e) for e in encodings]))

    def _encode_words(self, domain: str, table: Counter[str]) -> None:
        """Words meet again at a boundary when joined, so one long text costs what its words cost, in one call."""
        by_count: dict[int, list[str]] = defaultdict(list)
        for word, count in table.items():
            by_count[count].append(word)
        for count, words in by_count.items():
            joinable = [word for word in words if _JOINABLE.fullmatch(word)]
            texts = [word for word in words if not _JOINABLE.fullmatch(word)]
            texts += ["".join(joinable[start : start + JOINED]) for start in range(0, len(joinable), JOINED)]
            for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False):
                self._accumulate(domain, encoding.ids, count)

    def _encode_added(self, domain: str, table: Counter[str]) -> None:
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self._accumulate(
            domain, [vocabulary[token] for token in table], np.fromiter(table.values(), np.int64, len(table))
        )

    def _accumulate(self, domain: str, ids: list[int], counts: int | np.ndarray) -> None:
        np.add.at(self.counts.setdefault(domain, np.zeros(self.size, dtype=np.int64)), ids, counts)
