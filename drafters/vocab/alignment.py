"""Which drafter token is which target token: `VocabMap`, made by comparing the bytes that tokens spell.

Matching token *strings* misses whole alphabets (``Ġthe`` and ``▁the``), and trusting the iteration order of
`get_vocab()` scrambles the map; here everything is keyed by bytes and walked in order of ids. Where the ids of both spell
the same text, the two are one vocabulary and an id is itself, whatever its role or name. Elsewhere specials are matched by
role, eos to eos and bos to bos (arXiv 2502.05202, Alg. 4), then by name; pad and unk never.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from drafters.errors import DraftersError
from drafters.vocab.one_vocabulary import counterparts, same_vocabulary
from drafters.vocab.spelling import Spelling, spelling


class VocabMapError(DraftersError):
    """A vocabulary map that contradicts itself or the vocabularies it is for."""


@dataclass(frozen=True)
class VocabMap:
    """The two directions between a drafter's rows and a target's ids.

    Several rows may have one target id (their probabilities are summed); `to_drafter` then names the preferred row.
    """

    to_target: Tensor  # int64 (D,) target id of each drafter row, -1 where it has none
    to_drafter: Tensor  # int64 (V,) drafter row, -1 where it has none


def validate(vocab: VocabMap) -> None:
    """Check types, shapes, ranges and that both directions agree.

    Every row with a target id must be reachable from it, and `to_target[to_drafter[t]] == t`. Raises VocabMapError.
    """
    for name, ids, limit in (
        ("to_target", vocab.to_target, len(vocab.to_drafter)),
        ("to_drafter", vocab.to_drafter, len(vocab.to_target)),
    ):
        if ids.dtype != torch.int64 or ids.ndim != 1:
            raise VocabMapError(f"{name} must be int64 with one axis, got {ids.dtype} of shape {tuple(ids.shape)}")
        if len(ids) and (int(ids.min()) < -1 or int(ids.max()) >= limit):
            raise VocabMapError(f"{name} must lie in [-1, {limit}), got [{int(ids.min())}, {int(ids.max())}]")
    back = vocab.to_drafter[vocab.to_target.clamp(min=0)]
    lost = (vocab.to_target >= 0) & (back < 0)
    if lost.any():
        row = int(lost.nonzero()[0])
        raise VocabMapError(f"row {row} maps to target id {int(vocab.to_target[row])}, which maps to no row")
    ids = (vocab.to_drafter >= 0).nonzero().flatten()
    wrong = vocab.to_target[vocab.to_drafter[ids]] != ids
    if wrong.any():
        bad = int(ids[wrong][0])
        row = int(vocab.to_drafter[bad])
        raise VocabMapError(f"target id {bad} maps to row {row}, which maps to target id {int(vocab.to_target[row])}")


def identity(vocabulary: int) -> VocabMap:
    """The map of a pair that shares tokenizer and vocabulary size V: both directions are 0..V-1."""
    return VocabMap(torch.arange(vocabulary), torch.arange(vocabulary))


def restrict(vocab: VocabMap, kept: Tensor) -> VocabMap:
    """The map of the drafter whose head holds only the rows ``kept``, ascending ids (D,): row d is id ``kept[d]``.

    Where the preferred row of a target id is gone but others with its bytes are kept, the lowest of them stands in.
    """
    to_target = vocab.to_target[kept]  # (D,)
    to_drafter = _invert(to_target, len(vocab.to_drafter))
    row = torch.full_like(vocab.to_target, -1)
    row[kept] = torch.arange(len(kept))
    preferred = torch.where(vocab.to_drafter >= 0, row[vocab.to_drafter.clamp(min=0)], -1)
    return VocabMap(to_target, torch.where(preferred >= 0, preferred, to_drafter))


def _invert(to_target: Tensor, vocabulary: int) -> Tensor:
    """(D,) target ids to (V,) lowest row of each, -1 where none."""
    rows = (to_target >= 0).nonzero().flatten()
    empty = torch.full((vocabulary,), len(to_target))
    lowest = empty.scatter_reduce(0, to_target[rows], rows, "amin")
    return torch.where(lowest < len(to_target), lowest, -1)


def by_id(target: Spelling, drafter: Spelling) -> VocabMap:
    """Map every id to itself that is a token of the target and a row of the drafter; padding and holes have no image."""
    size = max(len(target.token), len(drafter.token))
    token = torch.tensor([t is not None for t in target.token] + [False] * (size - len(target.token)))
    ids = torch.where(token & (torch.arange(size) < len(drafter.token)), torch.arange(size), -1)
    return VocabMap(ids[: len(drafter.token)], ids[: len(target.token)])


def align(
    target_tokenizer: PreTrainedTokenizerBase,
    drafter_tokenizer: PreTrainedTokenizerBase,
    target_vocabulary: int,
    drafter_vocabulary: int,
) -> VocabMap:
    """The map between two models' vocabularies of V and D logit rows, specials and padding included.

    A drafter token goes to the target token with the same bytes; of several, to the one with the same string, else to
    one that is not a byte-fallback token (a target hardly ever says those), else to the lowest id. Specials go by
    `counterparts`. In one vocabulary, see `same_vocabulary`, a target's token is its own id wherever the drafter has
    that row. Raises TokenizerMismatch (ids beyond the rows, unknown decoder) and VocabMapError.
    """
    target, drafter = spelling(target_tokenizer, target_vocabulary), spelling(drafter_tokenizer, drafter_vocabulary)
    return align_spellings(target, drafter)


def align_spellings(target: Spelling, drafter: Spelling) -> VocabMap:
    """`align` for vocabularies whose spelling is known: both tuples long as the logit rows."""
    if same_vocabulary(target, drafter):
        return by_id(target, drafter)
    pairs = counterparts(drafter, target)
    image = _by_bytes(target, drafter) | pairs
    first = {t: d for d, t in reversed(pairs.items())}
    to_target, to_drafter = [-1] * len(drafter.token), [-1] * len(target.token)

    def order(d: int) -> tuple[bool, bool, tuple[bool, int]]:
        t = image[d]
        return d != first.get(t), drafter.token[d] != target.token[t], drafter.order(d)

    for d in sorted(image, key=order, reverse=True):  # the most preferred writes last
        to_target[d] = image[d]
        to_drafter[image[d]] = d
    vocab = VocabMap(torch.tensor(to_target), torch.tensor(to_drafter))
    validate(vocab)
    return vocab


def _by_bytes(target: Spelling, drafter: Spelling) -> dict[int, int]:
    """Drafter id to target id for every ordinary token whose bytes both know."""
    ids = target.ids()
    image = {}
    for d, text in enumerate(drafter.text):
        if text is not None and (candidates := ids.get(text)):
            image[d] = match(drafter.token[d], candidates, target)
    return image


def match(token: str | None, candidates: list[int], spelled: Spelling) -> int:
    """The id among ``candidates`` (same bytes, in preferred order) that stands for a token of another tokenizer."""
    return next((i for i in candidates if spelled.token[i] == token), candidates[0])
