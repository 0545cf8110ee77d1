"""The rows of an evaluation: plain decoding, the unpruned drafter, and every sampler of conf/sampler that applies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from drafters.distributed.executor import Distributed
from drafters.engine.decode import Decoded, Executor, Speculative, autoregressive
from drafters.engine.limits import Limits
from drafters.engine.prefill import allows
from drafters.engine.transformers_pair import Pair
from drafters.probs import Sampling
from drafters.rng.coins import Coins
from drafters.samplers.catalog import Group, applies, build
from drafters.samplers.draft import Sampler, Tree
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from drafters.vocab.alignment import VocabMap
from eval.run.records import AUTOREGRESSIVE, SPECULATIVE, Configuration
from eval.run.sampler_files import Preset

Decode = Callable[[Sequence[Tensor], Coins, Limits], Decoded]


@dataclass(frozen=True)
class Drafter:
    """A drafter on trial, with the target."""

    name: str  # UNPRUNED, PACKAGE or any other
    pair: Pair
    vocab: VocabMap  # of its head rows
    more: Mapping[str, Any] = field(
        default_factory=dict
    )  # what else samplers may ask for, see `drafters.samplers.needs.Context`

    @property
    def kept(self) -> int:
        """The number D of tokens that the drafter can say."""
        return self.vocab.to_target.shape[0]


@dataclass(frozen=True)
class Contender:
    """One row of the report, ready to run."""

    configuration: Configuration
    decode: Decode
    sampler: Sampler | None = None  # None: plain decoding
    drafter: Drafter | None = None
    stop: StopPolicy | None = None
    # How it makes the target's distribution, where that is not plain decoding's way: then it is lossy
    warp: Sampling | None = None


# name -> policy; by temperature where they were tuned for it
Stops = Mapping[str, StopPolicy] | Callable[[float], Mapping[str, StopPolicy]]
# (drafter, temperature) -> distribution of ranks for shapes that are made to measure; None: the sampler's own
RankLaw = Callable[[Drafter, float], Sequence[float] | None]


def contenders(
    drafters: Sequence[Drafter],
    stops: Stops,
    temperatures: Sequence[float],
    presets: Sequence[Preset],
    *,
    compare: bool = False,
    rank_law: RankLaw = lambda drafter, temperature: None,
    executors: Mapping[str, Executor] | None = None,
) -> list[Contender]:
    """Plain decoding and every (drafter, preset, stop policy, executor) at every temperature.

    Args:
        drafters: the unpruned one, the packaged one, then any others.
        stops: name -> policy; trees of a stated shape are drafted whole under a static one, and are left out under one
            that reads the distributions of a chain, as string-level samplers are.
        presets: see `pairings`. compare: see there.
        rank_law: for presets whose `rank_law` is null.
        executors: name -> executor, None for speculative decoding in this process; a distributed one leaves out what it
            cannot run.
    """
    executors = executors or {SPECULATIVE: Speculative()}
    found = []
    for temperature in temperatures:
        plain = Configuration(None, None, AUTOREGRESSIVE, None, temperature, None)
        found.append(Contender(plain, partial(autoregressive, drafters[0].pair)))
        named = stops(temperature) if callable(stops) else stops
        for drafter, preset in pairings(drafters, presets, compare):
            for stop_name, policy in named.items():
                sampler = made_to_measure(drafter, preset, policy, rank_law(drafter, temperature))
                if not allows(sampler, policy):
                    continue
                stop = whole_trees(policy, sampler)
                for executor, engine in executors.items():
                    if isinstance(engine, Distributed) and not engine.runs(sampler):
                        continue
                    key = Configuration(
                        drafter.name, preset.name, executor, stop_name, temperature, drafter.kept, preset.label
                    )
                    run = partial(engine.decode, drafter.pair, sampler, stop)
                    found.append(Contender(key, run, sampler, drafter, stop))
    return found


def pairings(
    drafters: Sequence[Drafter], presets: Sequence[Preset], compare: bool = False
) -> Iterator[tuple[Drafter, Preset]]:
    """The (drafter, preset) that `contenders` measures.

    A preset is tried on the packaged drafter, and on the unpruned one where it cannot work with the package's vocabulary. The
    reference sampler also runs on the unpruned drafter and on every further one, as what to compare with. `compare` adds what
    the comparisons of papers need of the other drafters.
    """
    unpruned, package, *others = drafters
    able = {preset.label: applicable(preset, package) is not None for preset in presets}
    first = reference(unpruned)
    yield unpruned, first
    for preset in presets:
        wanted = not able[preset.label] or (compare and preset.in_group(Group.PRUNING))
        if wanted and preset.label != first.label and applicable(preset, unpruned) is not None:
            yield unpruned, preset
    for preset in presets:
        if able[preset.label]:
            yield package, preset
    for drafter in others:
        yield drafter, (theirs := reference(drafter))
        for preset in presets:
            group = Group.PRUNING if drafter.more.get("tail") else Group.HETEROGENEOUS
            also = compare and preset.in_group(group) and preset.label != theirs.label
            if also and applicable(preset, drafter) is not None:
                yield drafter, preset


def applicable(preset: Preset, drafter: Drafter) -> Sampler | None:
    """The sampler for this drafter, None where the drafter lacks what it needs (see `drafters.samplers.catalog.lacking`)."""
    if not applies(preset.name, drafter.vocab, **drafter.more):
        return None
    return build(preset.name, drafter.vocab, preset.options, **drafter.more)


def reference(drafter: Drafter) -> Preset:
    """Plain rejection sampling as the drafter's head allows it."""
    if drafter.more.get("tail"):
        return Preset("tail", "tail")
    standard = Preset("standard", "standard")
    return standard if applicable(standard, drafter) is not None else Preset("tli", "tli")


def made_to_measure(drafter: Drafter, preset: Preset, stop: StopPolicy, law: Sequence[float] | None) -> Sampler:
    """The sampler, its tree shaped for the measured ranks and the policy's longest round where the preset leaves it open."""
    options = dict(preset.options)
    measured = law is not None and law[0] > 0  # of a drafter whose first choice never won there is no best shape
    if "rank_law" in options and options["rank_law"] is None and measured:
        options["rank_law"] = law
    if "depth" in options and options["depth"] is None:
        options["depth"] = max(1, stop.max_length)
    return build(preset.name, drafter.vocab, options, **drafter.more)


def whole_trees(stop: StopPolicy, sampler: Sampler) -> StopPolicy:
    """A static length is one of chains: a tree states its own depth. Length 0 stays plain decoding."""
    if isinstance(stop, Static) and stop.length and isinstance(sampler.shape, Tree):
        return Static(max(stop.length, len(sampler.shape.levels)))
    return stop
