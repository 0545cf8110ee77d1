"""What samplers ask of a pair, as values: whether one applies is looked up, not tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drafters.affinity.prior import AffinityPrior
from drafters.vocab.alignment import VocabMap
from drafters.vocab.texts import Texts


@dataclass(frozen=True)
class Context:
    """What builders may ask of a pair. Only `vocab` is always there; `catalog.build` takes the others as keyword arguments."""

    vocab: VocabMap  # of the drafter's head
    texts: Callable[[], Texts] | None = None  # what the ids spell, read when a string-level sampler asks for it
    affinity: AffinityPrior | None = None
    tail: bool = False  # the drafter's head has a low-rank tail, so that it has a row for every token of its vocabulary


@dataclass(frozen=True)
class Need:
    """A condition on a pair, and what to say where it does not hold; `{name}` is the sampler's."""

    holds: Callable[[Context], bool]
    otherwise: str


def is_identity(vocab: VocabMap) -> bool:
    """True where every drafter row is the target id of the same number."""
    size = vocab.to_target.shape[0]
    return vocab.to_drafter.shape[0] == size and bool(
        (vocab.to_target == vocab.to_target.new_tensor(range(size))).all()
    )


def shares(vocab: VocabMap) -> bool:
    """True where some drafter row is a token of the target."""
    return bool((vocab.to_target >= 0).any())


WHOLE = Need(
    lambda pair: is_identity(pair.vocab),
    "sampler {name!r} needs a drafter with the target's whole vocabulary; use sampler='tli'.",
)
SHARED = Need(
    lambda pair: shares(pair.vocab),
    "{name}: target and drafter share no token; use a string-level sampler or another drafter.",
)
TEXTS = Need(
    lambda pair: pair.texts is not None,
    "sampler {name!r} must know what the ids spell: pass texts=, e.g. of read_texts.",
)
# A drafter token that is a target token begins with itself: no text is needed where that holds for all.
TEXTS_OR_SUBSET = Need(
    lambda pair: pair.texts is not None or bool((pair.vocab.to_target >= 0).all()),
    TEXTS.otherwise,
)
PRIOR = Need(
    lambda pair: pair.affinity is not None,
    "sampler {name!r} needs an affinity prior: run stage=affinity, or pass affinity=.",
)
TAIL = Need(
    lambda pair: pair.tail,
    "sampler {name!r} needs a drafter whose head has a tail: run stage=tail, or pass tail=True.",
)
