"""The one list of stop policies: name -> specification. The names are those of conf/stop and of report rows."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drafters.stop.classifier import Classifier, Trained, parameter
from drafters.stop.policies.adaedl import AdaEDL
from drafters.stop.policies.confidence import Confidence
from drafters.stop.policies.confidence_adaptive import AdaptiveConfidence
from drafters.stop.policies.cost_aware import CostAware
from drafters.stop.policies.disco import Disco
from drafters.stop.policies.heuristic import Heuristic
from drafters.stop.policies.specdecpp import SpecDecPP
from drafters.stop.policies.static import Static
from drafters.stop.policies.svip import SVIP
from drafters.stop.policy import StopError, StopPolicy


@dataclass(frozen=True)
class StopContext:
    """What builders may ask for besides their own options."""

    name: str
    temperature: float = 1.0  # of the target's distribution: what was tuned depends on it
    trained: Trained | None = None  # a package's stop slot

    @property
    def component(self) -> Trained:
        """The trained part. Raises StopError without one."""
        if self.trained is None:
            raise StopError(
                f"stop={self.name}: it needs a trained classifier and this package has none; make the package with one "
                "(train_disco.enabled=true, or make train-disco first), or choose stop=confidence, which needs none"
            )
        return self.trained

    def tuned(self, name: str, given: float | None) -> float:
        """An option, or where it is None the number found in training."""
        return parameter(self.component, name, self.temperature) if given is None else float(given)


def heuristic_transient(length: int = 5, max_length: int = 20) -> StopPolicy:
    """transformers' schedule, begun anew with every request; its "heuristic" may carry the length over (`persist`)."""
    return Heuristic(length, max_length, False)


def disco(context: StopContext, threshold: float | None = None, max_length: int | None = None) -> StopPolicy:
    """DISCO's rule; what is None takes the number tuned in training."""
    longest = int(context.tuned("disco_max_length", max_length))
    return Disco(Classifier(context.component), context.tuned("disco_threshold", threshold), longest)


def specdecpp(context: StopContext, threshold: float | None = None, max_length: int = 20) -> StopPolicy:
    """SpecDec++'s rule on the whole draft; a threshold of None takes the number tuned in training."""
    return SpecDecPP(Classifier(context.component), context.tuned("specdecpp_threshold", threshold), max_length)


def cost_aware(
    context: StopContext,
    c: float | None = None,
    rate: float | None = None,
    first: float | None = None,
    min_length: int | None = None,
    max_length: int = 20,
    persist: bool = False,
) -> StopPolicy:
    """The cost-aware rule; what is None takes the number measured or tuned in training."""
    found = {"c": c, "rate": rate, "first": first}
    numbers = {name: context.tuned(name, given) for name, given in found.items()}
    least = (
        int(parameter(context.component, "min_length", context.temperature, 1)) if min_length is None else min_length
    )
    return CostAware(
        Classifier(context.component),
        max_length=max_length,
        min_length=min(least, max_length) if min_length is None else least,
        persist=persist,
        **numbers,
    )


@dataclass(frozen=True)
class StopSpec:
    """A stop policy of the catalog."""

    build: Callable[..., StopPolicy]  # (options), and the context before them if it is `trained`
    trained: bool = False  # needs a package's stop slot
    compared: bool = True  # train-disco shows it beside the others; static ones it chooses by itself

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """What a file of conf/stop may set besides the name: the builder's arguments after the context."""
        return dict(list(inspect.signature(self.build).parameters.items())[int(self.trained) :])


CATALOG: dict[str, StopSpec] = {
    "static": StopSpec(Static, compared=False),
    "heuristic": StopSpec(Heuristic),
    "heuristic_transient": StopSpec(heuristic_transient, compared=False),
    "confidence": StopSpec(Confidence),
    "confidence_adaptive": StopSpec(AdaptiveConfidence),
    "adaedl": StopSpec(AdaEDL),
    "svip": StopSpec(SVIP),
    "specdecpp": StopSpec(specdecpp, trained=True),
    "disco": StopSpec(disco, trained=True),
    "cost_aware": StopSpec(cost_aware, trained=True),
}
TRAINED = tuple(name for name, spec in CATALOG.items() if spec.trained)


def build(
    name: str, options: Mapping[str, object] | None = None, *, temperature: float = 1.0, trained: Trained | None = None
) -> StopPolicy:
    """The policy called `name` with `options`, those of conf/stop/<name>.yaml.

    Raises StopError for an unknown name or option, for a value out of range, and where a trained part is needed and not there.
    """
    if name not in CATALOG:
        near = difflib.get_close_matches(name, CATALOG, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise StopError(f"unknown stop policy {name!r}; {hint}choose one of: {', '.join(CATALOG)}")
    spec = CATALOG[name]
    for option in options or {}:
        if option not in spec.options:
            raise StopError(f"stop.{option}: {name} has no such option; it has: {', '.join(spec.options) or 'none'}")
    context = [StopContext(name, temperature, trained)] if spec.trained else []
    try:
        return spec.build(*context, **(options or {}))
    except (ValueError, TypeError) as error:
        raise StopError(str(error)) from error
