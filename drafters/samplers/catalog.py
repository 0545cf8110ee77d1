"""The one list of samplers: name -> builder. The names are those of conf/sampler, report rows and the certificate."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from drafters.samplers.draft import Sampler, TokenProposal
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.rejection import Rejection
from drafters.vocab.alignment import VocabMap


def is_identity(vocab: VocabMap) -> bool:
    """True where every drafter row is the target id of the same number."""
    size = vocab.to_target.shape[0]
    return vocab.to_drafter.shape[0] == size and bool(
        (vocab.to_target == vocab.to_target.new_tensor(range(size))).all()
    )


def _bridge(vocab: VocabMap) -> TokenProposal:
    return Identity() if is_identity(vocab) else TLI(vocab)


def standard(vocab: VocabMap) -> Sampler:
    """Rejection sampling on one shared, unpruned vocabulary. Raises ValueError for any other map."""
    if not is_identity(vocab):
        raise ValueError("sampler 'standard' needs a drafter with the target's whole vocabulary; use sampler='tli'.")
    return Sampler("standard", Identity(), Rejection())


def exact_match(vocab: VocabMap) -> Sampler:
    """The target's own samples decide; any vocabulary map."""
    return Sampler("exact_match", _bridge(vocab), ExactMatch())


def tli(vocab: VocabMap) -> Sampler:
    """Rejection sampling on the tokens both vocabularies hold."""
    return Sampler("tli", TLI(vocab), Rejection())


CATALOG: dict[str, Callable[[VocabMap], Sampler]] = {"standard": standard, "exact_match": exact_match, "tli": tli}


def build(name: str, vocab: VocabMap) -> Sampler:
    """The sampler `name` for a drafter with this vocabulary map. Raises ValueError naming the known and the nearest name."""
    if name not in CATALOG:
        near = difflib.get_close_matches(name, CATALOG, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown sampler {name!r}; known: {', '.join(CATALOG)}{hint}")
    return CATALOG[name](vocab)
