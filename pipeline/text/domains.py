"""Which domain a document is of, where nobody says: by a column, by its file, or by the script it is written in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from eval.suites.dataset_rows import Row

COLUMNS = ("domain", "kind", "category", "language", "lang", "source")
MOST = 16  # domains that are found by themselves: more are identifiers, or parts of one data set
LONGEST = 40  # characters of a label
LOOKED_AT = 4_000  # characters of a text, by which its script is told
NAMES = {"cjk": "han", "hiragana": "japanese", "katakana": "japanese"}  # first words of Unicode's names of letters


def label_column(rows: Sequence[Row]) -> str | None:
    """The first column of the known names that tells a few kinds of rows apart; None where there is none."""
    for name in COLUMNS:
        values = [row.get(name) for row in rows]
        if all(isinstance(value, str) and value and len(value) <= LONGEST for value in values):
            kinds = len(set(values))
            if 2 <= kinds <= min(MOST, max(2, len(values) // 2)):
                return name
    return None


def file_labels(files: Sequence[Path]) -> dict[Path, str]:
    """A label per file, its name without numbers, as parts of one data set differ by them; none where that tells no kinds apart."""
    names = {file: re.sub(r"(of)?[\d\W_]+(of)?", " ", file.name.partition(".")[0]).strip() for file in files}
    return names if 2 <= len(set(names.values())) <= MOST and all(names.values()) else {}


def script_of(text: str) -> str:
    """Name the script that most letters of a text's beginning are of, by Unicode's names of them: ``latin`` without any."""
    head = text[:LOOKED_AT]
    if head.isascii():
        return "latin"
    letters = Counter(char for char in head if char.isalpha())
    scripts: Counter[str] = Counter()
    for char, often in letters.items():
        first = "latin" if char.isascii() else unicodedata.name(char, "latin").split()[0].split("-")[0].lower()
        scripts[NAMES.get(first, first)] += often
    return scripts.most_common(1)[0][0] if scripts else "latin"
