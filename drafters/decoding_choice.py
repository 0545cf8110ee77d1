"""How a call of `drafters.generate` decodes: what its caller asked for, else what the package's evaluation recommends."""

from collections.abc import Callable
from dataclasses import dataclass

from drafters.engine.prefill import allows
from drafters.errors import DraftersError
from drafters.package.reader import Package
from drafters.package.recommendation.choices import Rated, Use
from drafters.package.recommendation.uses import TAIL, UNPRUNED, stop_options
from drafters.probs import Sampling
from drafters.samplers.catalog import build
from drafters.samplers.draft import Sampler
from drafters.stop import catalog as stops
from drafters.stop.policy import StopPolicy
from drafters.vocab.alignment import VocabMap
from drafters.vocab.texts import Texts


@dataclass(frozen=True)
class Asked:
    """The drafting options that the caller of a decode call gave; None where not given."""

    sampler: str | Sampler | None = None
    stop: str | StopPolicy | None = None
    lookahead: int | None = None  # tokens per round of static

    @property
    def nothing(self) -> bool:
        """Whether none of the options was given."""
        return self.sampler is None and self.stop is None and self.lookahead is None


@dataclass(frozen=True)
class DecodingPlan:
    """The drafter, sampler and stop policy of a decode call; without a sampler nothing is drafted."""

    sampler: Sampler | None
    stop: StopPolicy
    tailed: bool = False  # the drafter's form with the low-rank tail drafts, else the short head


def plan(package: Package, sampling: Sampling, device: str, asked: Asked, texts: Callable[[], Texts]) -> DecodingPlan:
    """The way to decode with this distribution on this device type. What the caller gave always holds.

    Without a sampler it is the best way of the package's recommendation for exactly this distribution and device type
    that the package itself holds (the unpruned drafter is no part of it), with that way's stop policy. Plain decoding
    stands only where the caller gave no stop policy either. Everything else is the default: `default_sampler` and
    `static`.

    Raises ValueError (StopError, LossyError) for an unknown name, or for what the caller's sampler or policy needs and
    the package has not.
    """
    given = _given(package, sampling, asked)
    for rated in _recommended(package, sampling, device) if asked.sampler is None else ():
        if asked.nothing and not _gains(rated):
            return DecodingPlan(None, stops.build("static", {"length": 0}))
        if (found := _runnable(package, rated.use, sampling, given, texts)) is not None:
            return found
    named = asked.sampler.name if isinstance(asked.sampler, Sampler) else asked.sampler or default_sampler(package)
    tailed = named == "tail" and package.tailed is not None
    sampler = asked.sampler
    if not isinstance(sampler, Sampler):
        sampler = build(named, _vocab(package, tailed), texts=texts, affinity=package.affinity, tail=tailed)
    return DecodingPlan(sampler, given or _static(package), tailed)


def default_sampler(package: Package) -> str:
    """The plain rejection sampler that fits a package's vocabulary."""
    return "tli" if package.pruned or package.foreign else "standard"


def _recommended(package: Package, sampling: Sampling, device: str) -> tuple[Rated, ...]:
    choice = None if package.recommendation is None else package.recommendation.choice(device, sampling)
    return () if choice is None else choice.ranked


def _gains(rated: Rated) -> bool:
    """A next best way may be slower than plain decoding: then it is none to fall back on."""
    return not rated.use.plain and rated.speedup.ratio >= 1


def _runnable(
    package: Package, use: Use, sampling: Sampling, given: StopPolicy | None, texts: Callable[[], Texts]
) -> DecodingPlan | None:
    """The plan of a recommended way, with the caller's stop policy where there is one; None where the package cannot."""
    tailed = use.form == TAIL
    if use.sampler is None or use.stop is None or (use.form == UNPRUNED and package.pruned):
        return None
    if tailed and package.tailed is None:
        return None
    try:
        vocab, options = _vocab(package, tailed), stop_options(use.stop, use.length)
        spelled = None if tailed else texts  # which are of the short head's rows
        sampler = build(use.sampler, vocab, use.options, texts=spelled, affinity=package.affinity, tail=tailed)
        stop = given or stops.build(use.stop, options, temperature=sampling.temperature, trained=package.stop)
    except (DraftersError, ValueError):  # a prior, a tail or a classifier that the package does not have
        return None
    return DecodingPlan(sampler, stop, tailed) if allows(sampler, stop) else None


def _given(package: Package, sampling: Sampling, asked: Asked) -> StopPolicy | None:
    """The caller's stop policy; a lookahead alone is one of static."""
    if asked.stop is not None and not isinstance(asked.stop, str):
        return asked.stop
    if asked.stop is not None and asked.stop != "static":
        return stops.build(asked.stop, temperature=sampling.temperature, trained=package.stop)
    if asked.stop is None and asked.lookahead is None:
        return None
    return _static(package, asked.lookahead)


def _static(package: Package, length: int | None = None) -> StopPolicy:
    """So many tokens per round; None: as many as the package was prepared for."""
    return stops.build(
        "static", {"length": package.description["generation"]["lookahead"] if length is None else length}
    )


def _vocab(package: Package, tailed: bool) -> VocabMap:
    return package.tailed_vocab if tailed else package.vocab
