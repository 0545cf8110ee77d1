"""Who is measured against whom: plain decoding, the unpruned drafter, and every sampler of the catalog that applies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from drafters.coins import Coins
from drafters.engine.decode import Decoded, autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.session import Pair
from drafters.samplers.catalog import CATALOG, build
from drafters.samplers.draft import Sampler
from drafters.stop.policy import StopPolicy
from drafters.vocab.alignment import VocabMap
from eval.records import AUTOREGRESSIVE, SPECULATIVE, Configuration

Decode = Callable[[Sequence[Tensor], Coins, Limits], Decoded]


@dataclass(frozen=True)
class Drafter:
    """A drafter on trial, with the target."""

    name: str  # UNPRUNED, PACKAGE or any other
    pair: Pair
    vocab: VocabMap  # of its head rows
    more: Mapping[str, Any] = field(default_factory=dict)  # what else samplers may ask for, see `catalog.Context`

    @property
    def kept(self) -> int:
        """D."""
        return self.vocab.to_target.shape[0]


@dataclass(frozen=True)
class Contender:
    """One row of the report, ready to run."""

    configuration: Configuration
    decode: Decode


def contenders(
    drafters: Sequence[Drafter],
    stop: StopPolicy,
    stop_name: str,
    temperatures: Sequence[float],
    samplers: Collection[str] | None = None,
) -> list[Contender]:
    """Plain decoding and every (drafter, sampler) at every temperature.

    A sampler is tried on the packaged drafter, and on the unpruned one where it cannot work with the package's
    vocabulary. The reference sampler also runs on the unpruned drafter and on every further one, as what to compare with.

    Args:
        drafters: the unpruned one, the packaged one, then any others.
        samplers: names of the catalog; None for all. References stay.
    """
    found = []
    for temperature in temperatures:
        plain = Configuration(None, None, AUTOREGRESSIVE, None, temperature, None)
        found.append(Contender(plain, partial(autoregressive, drafters[0].pair)))
        for drafter, sampler in pairings(drafters, samplers):
            configuration = Configuration(drafter.name, sampler.name, SPECULATIVE, stop_name, temperature, drafter.kept)
            found.append(Contender(configuration, partial(speculative, drafter.pair, sampler, stop)))
    return found


def pairings(drafters: Sequence[Drafter], samplers: Collection[str] | None = None) -> Iterator[tuple[Drafter, Sampler]]:
    """The (drafter, sampler) that `contenders` measures."""
    unpruned, package, *others = drafters
    names = [name for name in CATALOG if samplers is None or name in samplers]
    packaged = [(name, applicable(name, package)) for name in names]
    first = reference(unpruned)
    yield unpruned, first
    for name, sampler in packaged:
        if sampler is None and name != first.name and (instead := applicable(name, unpruned)) is not None:
            yield unpruned, instead
    for _, sampler in packaged:
        if sampler is not None:
            yield package, sampler
    for drafter in others:
        yield drafter, reference(drafter)


def applicable(name: str, drafter: Drafter) -> Sampler | None:
    """The sampler for this drafter, None where its builder refuses the vocabulary map or misses a component."""
    try:
        return build(name, drafter.vocab, **drafter.more)
    except ValueError:
        if name not in CATALOG:
            raise
        return None


def reference(drafter: Drafter) -> Sampler:
    """Plain rejection sampling as the vocabulary allows it. Raises ValueError where no token is shared."""
    return applicable("standard", drafter) or build("tli", drafter.vocab)
