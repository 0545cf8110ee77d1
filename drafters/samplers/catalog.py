"""The one list of samplers: name -> builder. The names are those of conf/sampler, report rows and the certificate."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drafters.affinity import AffinityPrior
from drafters.samplers.draft import Sampler, TokenProposal
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.slrs import SLRS
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.proposal.union import Union
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.rejection import Rejection
from drafters.vocab.alignment import VocabMap
from drafters.vocab.texts import Texts


@dataclass(frozen=True)
class Context:
    """What builders may ask of a pair. Only `vocab` is always there; `build` takes the others as keyword arguments."""

    vocab: VocabMap  # of the drafter's head
    texts: Callable[[], Texts] | None = None  # what the ids spell, read when a string-level sampler asks for it
    affinity: AffinityPrior | None = None


def is_identity(vocab: VocabMap) -> bool:
    """True where every drafter row is the target id of the same number."""
    size = vocab.to_target.shape[0]
    return vocab.to_drafter.shape[0] == size and bool(
        (vocab.to_target == vocab.to_target.new_tensor(range(size))).all()
    )


def _bridge(vocab: VocabMap) -> TokenProposal:
    return Identity() if is_identity(vocab) else TLI(vocab)


def standard(context: Context) -> Sampler:
    """Rejection sampling on one shared, unpruned vocabulary. Raises ValueError for any other map."""
    if not is_identity(context.vocab):
        raise ValueError("sampler 'standard' needs a drafter with the target's whole vocabulary; use sampler='tli'.")
    return Sampler("standard", Identity(), Rejection())


def exact_match(context: Context) -> Sampler:
    """The target's own samples decide; any vocabulary map."""
    return Sampler("exact_match", _bridge(context.vocab), ExactMatch())


def tli(context: Context) -> Sampler:
    """Rejection sampling on the tokens both vocabularies hold."""
    return Sampler("tli", TLI(context.vocab), Rejection())


def union(context: Context) -> Sampler:
    """Rejection sampling with the drafter's whole law; what the target does not have is a miss."""
    return Sampler("union", Union(context.vocab), Rejection())


def slrs(context: Context) -> Sampler:
    """Rejection sampling with every drafter token counted as the first target token of its text.

    Needs `texts`, unless every drafter token is a target token already: then its text begins with itself.
    """
    if context.texts is None and bool((context.vocab.to_target < 0).any()):
        raise ValueError("sampler 'slrs' must know what the ids spell: pass texts=, e.g. of read_texts.")
    first = context.vocab.to_target if context.texts is None else context.texts().first
    return Sampler("slrs", SLRS(first, context.vocab.to_drafter.shape[0]), Rejection())


CATALOG: dict[str, Callable[[Context], Sampler]] = {
    "standard": standard,
    "exact_match": exact_match,
    "union": union,
    "tli": tli,
    "slrs": slrs,
}


def build(name: str, vocab: VocabMap, **more: Any) -> Sampler:
    """The sampler `name` for a drafter with this vocabulary map; `more` are the other fields of Context.

    Raises ValueError naming the known and the nearest name, or what the sampler needs and was not given.
    """
    if name not in CATALOG:
        near = difflib.get_close_matches(name, CATALOG, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown sampler {name!r}; known: {', '.join(CATALOG)}{hint}")
    return CATALOG[name](Context(vocab, **more))
