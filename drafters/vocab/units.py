"""Target tokens as paths of character or byte tokens of a drafter: the longest match and its distribution.

Where no drafter text begins another one, any text is one sequence of drafter tokens (units) at most. Let Q(x) be the
probability that the drafter's next units spell x. The longest target token t that the drafter's text begins with then
has the distribution psi(t) = Q(t) - sum of Q(c) over the shortest target tokens c that t begins: whoever writes t and
goes on to no longer token. (Timor et al. 2025, arXiv 2502.05202, algorithm 3 with a rule that ends the text at the
longest match.)
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from drafters.vocab.texts import Texts

Path = tuple[int, ...]  # head rows of the drafter


class Units:
    """Paths of a pair. Raises ValueError for a drafter with a text that begins another one."""

    def __init__(self, texts: Texts):
        rows: dict[bytes, int] = {}
        self.ids = texts.rows
        self.unit = torch.arange(len(texts.rows))  # (D,) rows with one text count as the first of them
        for row, drafter_id in enumerate(texts.rows.tolist()):
            if text := texts.drafter.text[drafter_id]:
                self.unit[row] = rows.setdefault(text, row)
        _check_prefix_free(rows)
        self.token: dict[Path, int] = {}
        self.path: dict[int, Path] = {}
        self.below: dict[Path, list[int]] = {}  # units that lead on towards a longer token
        for row, drafter_id in enumerate(texts.rows.tolist()):
            if texts.drafter.text[drafter_id] is None and (end := texts.role(drafter_id)) >= 0:
                self._add((row,), end)
        for text, ids in texts.to_target.ids.items():
            if path := _split(text, rows):
                self._add(path, ids[0])

    def _add(self, path: Path, token: int) -> None:
        self.token[path], self.path[token] = token, path
        for length in range(len(path)):
            units = self.below.setdefault(path[:length], [])
            if path[length] not in units:
                units.append(path[length])

    def law(self, q: Tensor) -> Tensor:
        """The drafter's distribution (..., D) with rows of one text added up."""
        return torch.zeros_like(q).index_add_(-1, self.unit.to(q.device), q)

    def longest(self, path: Path) -> int:
        """The longest target token that begins a path, -1 where none does."""
        return next((self.token[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.token), -1)

    def needed(self, token: int) -> list[Path]:
        """The paths after which psi(token) reads the drafter's q, each behind its own beginnings; the empty one first."""
        path = self.path.get(token)
        if path is None:
            return []
        return [path[:length] for length in range(len(path))] + self._inner(path)

    def _inner(self, path: Path) -> list[Path]:
        """`path` and the paths below it on the way to the next tokens, if there are any."""
        if path not in self.below:
            return []
        longer = [(*path, unit) for unit in self.below[path]]
        return [path, *(inner for step in longer if step not in self.token for inner in self._inner(step))]

    @property
    def most_needed(self) -> int:
        """The largest number of distributions for one token."""
        return max(len(self.needed(token)) for token in self.path)

    def psi(self, token: int, law: Callable[[Path], Tensor]) -> float:
        """Probability that `token` is the longest match; `law(path)` (D,) is `self.law` of the drafter after a path."""
        path = self.path.get(token)
        if path is None:
            return 0.0
        spelled = 1.0
        for length, unit in enumerate(path):
            spelled *= float(law(path[:length])[unit])
        return spelled * max(0.0, 1.0 - self._goes_on(path, law))

    def _goes_on(self, path: Path, law: Callable[[Path], Tensor]) -> float:
        """Probability of reaching a target token below `path`."""
        total = 0.0
        for unit in self.below.get(path, []):
            step = (*path, unit)
            total += float(law(path)[unit]) * (1.0 if step in self.token else self._goes_on(step, law))
        return total


def _check_prefix_free(rows: dict[bytes, int]) -> None:
    ordered = sorted(rows)
    for text, following in pairwise(ordered):
        if following.startswith(text):
            raise ValueError(
                f"the longest match needs a drafter of characters or bytes, but {text!r} begins {following!r}: use the one-token "
                "rule, slrs with rule=token."
            )


def _split(text: bytes, rows: dict[bytes, int]) -> Path | None:
    """The one way to write `text` in units, None if there is none."""
    longest, path, begin = max(map(len, rows), default=0), list[int](), 0
    while begin < len(text):
        end = next((end for end in range(begin + 1, begin + longest + 1) if text[begin:end] in rows), None)
        if end is None or end > len(text):
            return None
        path.append(rows[text[begin:end]])
        begin = end
    return tuple(path)
