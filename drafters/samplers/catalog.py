"""The one list of samplers: name -> specification. The names are those of conf/sampler, report rows and the certificate."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import torch

from drafters.samplers.draft import Sampler, TokenProposal, Tree
from drafters.samplers.lossy_settings import check_acceptance
from drafters.samplers.needs import PRIOR, SHARED, TAIL, TEXTS, TEXTS_OR_SUBSET, WHOLE, Context, Need, is_identity
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.rdk import RDK, RDKExact
from drafters.samplers.proposal.slem import SLEM
from drafters.samplers.proposal.slrs import SLRS
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.proposal.union import Union
from drafters.samplers.tree.siblings import SIBLINGS
from drafters.samplers.tree.tunstall import tunstall
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.greedy import Greedy
from drafters.samplers.verify.kseq import KSeq
from drafters.samplers.verify.race import Race
from drafters.samplers.verify.rejection import Rejection
from drafters.samplers.verify.rrs import RRS
from drafters.samplers.verify.traversal import Traversal
from drafters.vocab.alignment import VocabMap


def _bridge(vocab: VocabMap) -> TokenProposal:
    return Identity() if is_identity(vocab) else TLI(vocab)


def standard(context: Context) -> Sampler:
    """Rejection sampling on one shared, unpruned vocabulary."""
    return Sampler("standard", Identity(), Rejection())


def exact_match(context: Context) -> Sampler:
    """The target's own samples decide; any vocabulary map."""
    return Sampler("exact_match", _bridge(context.vocab), ExactMatch())


def tli(context: Context) -> Sampler:
    """Rejection sampling on the tokens both vocabularies hold."""
    return Sampler("tli", TLI(context.vocab), Rejection())


def union(context: Context) -> Sampler:
    """Rejection sampling with the drafter's whole distribution; what the target does not have is a miss."""
    return Sampler("union", Union(context.vocab), Rejection())


def slrs(context: Context) -> Sampler:
    """Rejection sampling of the first target token of the drafter's text, which ends after one drafter token.

    Needs `texts`, unless every drafter token is a target token already: then its text begins with itself.
    """
    first = context.vocab.to_target  # a drafter token that is a target token begins with itself
    if context.texts is not None:
        first = torch.where(first >= 0, first, context.texts().first.to(first.device))
    return Sampler("slrs", SLRS(first, context.vocab.to_drafter.shape[0]), Rejection())


def slem(context: Context) -> Sampler:
    """Text drafted in the drafter's own tokens; the target's own samples decide."""
    assert context.texts is not None  # a need
    return Sampler("slem", SLEM(context.texts()), ExactMatch())


def rdk(context: Context) -> Sampler:
    """Rejection sampling on the drafter's distribution after its tokens gave mass to pruned ones."""
    assert context.affinity is not None  # a need
    return Sampler("rdk", RDK(context.vocab, context.affinity), Rejection())


def rdk_exact(context: Context) -> Sampler:
    """The same distribution by the paper's whole matrix. Raises ValueError where that takes too much memory."""
    assert context.affinity is not None  # a need
    return Sampler("rdk_exact", RDKExact(context.vocab, context.affinity), Rejection())


def tail(context: Context) -> Sampler:
    """Rejection sampling with a drafter whose pruned rows a low-rank tail gives back."""
    return Sampler("tail", _bridge(context.vocab), Rejection())


# The drafting strategies of Kobus and Gunduz 2025 for recursive rejection, each of as many nodes.
STRATEGIES: dict[str, tuple[int, ...]] = {"sequence": (1,) * 15, "batch": (15,), "tree": (3, 2, 1)}
Branching = str | Sequence[int]  # a strategy's name, or the children of a node by depth


def _tree(branching: Branching) -> Tree:
    if not isinstance(branching, str):
        return Tree(tuple(branching))
    if branching not in STRATEGIES:
        raise ValueError(
            f"branching must be one number per depth or one of {', '.join(STRATEGIES)}, got {branching!r}."
        )
    return Tree(STRATEGIES[branching])


def block(context: Context) -> Sampler:
    """Chains decided as a whole: the most accepted tokens of any rule for one chain."""
    return Sampler("block", _bridge(context.vocab), Block())


def rrs(context: Context, branching: Branching = "tree") -> Sampler:
    """Recursive rejection, siblings drawn with replacement (SpecInfer)."""
    return Sampler("rrs", _bridge(context.vocab), RRS(SIBLINGS["with"]), _tree(branching))


def rrs_wor(context: Context, branching: Branching = "tree") -> Sampler:
    """Recursive rejection, siblings drawn without replacement (Sequoia)."""
    return Sampler("rrs_wor", _bridge(context.vocab), RRS(SIBLINGS["without"]), _tree(branching))


def kseq(context: Context, branching: Branching = "tree") -> Sampler:
    """Independent siblings tested together (SpecTr)."""
    return Sampler("kseq", _bridge(context.vocab), KSeq(), _tree(branching))


def greedy(context: Context, branching: Branching = "tree") -> Sampler:
    """One drawn sibling and the likeliest others: the best rule for such drafts, node by node."""
    return Sampler("greedy", _bridge(context.vocab), Greedy(), _tree(branching))


def traversal(context: Context, branching: Branching = "tree", siblings: str = "mixed") -> Sampler:
    """Trees decided from the leaves. `siblings`: "mixed" (as greedy), "without" or "with" replacement."""
    if siblings not in SIBLINGS:
        raise ValueError(f"siblings must be one of {', '.join(SIBLINGS)}, got {siblings!r}.")
    return Sampler("traversal", _bridge(context.vocab), Traversal(SIBLINGS[siblings]), _tree(branching))


def race(context: Context) -> Sampler:
    """Chains drafted and verified on shared exponential noise (ERSD)."""
    return Sampler("race", _bridge(context.vocab), Race())


# Pr(the target's token is the drafter's r-th arrival), r = 1.., over 1,000 tokens: target logits N(0, 9), drafter's N(0, 1) off.
RANK_LAW = (0.595, 0.194, 0.087, 0.046, 0.025, 0.015, 0.010, 0.008)


def race_tree(
    context: Context,
    branching: Branching = "tunstall",
    nodes: int = 15,
    depth: int | None = None,
    rank_law: Sequence[float] | None = None,
) -> Sampler:
    """Trees on shared noise; "tunstall" is the best shape of `nodes` nodes and `depth` levels at most for the ranks.

    `rank_law`: as measured on the pair (eval.acceptance.race_ranks); None for RANK_LAW.
    """
    law = RANK_LAW if rank_law is None else rank_law
    shape = tunstall(law, nodes, depth) if branching == "tunstall" else _tree(branching)
    return Sampler("race_tree", _bridge(context.vocab), Race(), shape)


class Group(Enum):
    """Comparisons that a sampler takes part in."""

    HETEROGENEOUS = auto()  # what two vocabularies make of one drafter (arXiv 2502.05202)
    PRUNING = auto()  # what pruning changes: with and without it
    MISSING = auto()  # drafts may be no target tokens, and are then rejected


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler of the catalog."""

    build: Callable[..., Sampler]  # (Context, options)
    needs: tuple[Need, ...] = (SHARED,)  # of the pair
    groups: tuple[Group, ...] = ()

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The builder's arguments after the pair: what conf/sampler may set."""
        return dict(list(inspect.signature(self.build).parameters.items())[1:])


_HETEROGENEOUS, _PRUNING = (Group.HETEROGENEOUS,), (Group.PRUNING,)
CATALOG: dict[str, SamplerSpec] = {
    "standard": SamplerSpec(standard, (WHOLE,)),
    "exact_match": SamplerSpec(exact_match, groups=_HETEROGENEOUS + _PRUNING),
    "union": SamplerSpec(union, groups=(*_HETEROGENEOUS, Group.MISSING)),
    "tli": SamplerSpec(tli, groups=_HETEROGENEOUS),
    "slem": SamplerSpec(slem, (TEXTS,), _HETEROGENEOUS),
    "slrs": SamplerSpec(slrs, (TEXTS_OR_SUBSET,), (*_HETEROGENEOUS, Group.MISSING)),
    "rdk": SamplerSpec(rdk, (SHARED, PRIOR), _HETEROGENEOUS),
    "rdk_exact": SamplerSpec(rdk_exact, (SHARED, PRIOR), _HETEROGENEOUS),
    "tail": SamplerSpec(tail, (SHARED, TAIL)),
    "block": SamplerSpec(block, groups=_PRUNING),
    "rrs": SamplerSpec(rrs),
    "rrs_wor": SamplerSpec(rrs_wor, groups=_PRUNING),
    "kseq": SamplerSpec(kseq),
    "greedy": SamplerSpec(greedy, groups=_PRUNING),
    "traversal": SamplerSpec(traversal, groups=_PRUNING),
    "race": SamplerSpec(race, groups=_PRUNING),
    "race_tree": SamplerSpec(race_tree, groups=_PRUNING),
}


def members(group: Group) -> tuple[str, ...]:
    """The names of the samplers of a group, in the catalog's order."""
    return tuple(name for name, spec in CATALOG.items() if group in spec.groups)


def needs_prior(name: str | None) -> bool:
    """Whether a sampler of this name draws by the prior that stage affinity makes."""
    return name in CATALOG and PRIOR in CATALOG[name].needs


def lacking(name: str, pair: Context) -> str | None:
    """What a pair lacks for the sampler `name`, in words; None where the sampler applies to it."""
    return next((need.otherwise.format(name=name) for need in CATALOG[name].needs if not need.holds(pair)), None)


def applies(name: str, vocab: VocabMap, **more: Any) -> bool:
    """Whether the sampler `name` can be built for a pair; arguments as of `build`."""
    return lacking(name, Context(vocab, **more)) is None


def build(name: str, vocab: VocabMap, options: Mapping[str, object] | None = None, **more: Any) -> Sampler:
    """The sampler `name` for a drafter with this vocabulary map.

    `options` are those of conf/sampler/<name>.yaml, i.e. the builder's arguments after the first; `more` the other fields of Context.

    Raises ValueError naming the known and the nearest name, or what the sampler needs and was not given.
    """
    check_options(name, options or {})
    pair = Context(vocab, **more)
    if (why := lacking(name, pair)) is not None:
        raise ValueError(why)
    return CATALOG[name].build(pair, **(options or {}))


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise ValueError for a name that is not in the catalog, or an option that its builder does not have.

    Raises LossyError for an option that would relax acceptance: no builder has one.
    """
    if name not in CATALOG:
        near = difflib.get_close_matches(name, CATALOG, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown sampler {name!r}; known: {', '.join(CATALOG)}{hint}")
    known = CATALOG[name].options
    check_acceptance(f"sampler {name!r}", {key: value for key, value in options.items() if key not in known})
    if unknown := set(options) - set(known):
        raise ValueError(
            f"sampler {name!r} has no option {', '.join(sorted(unknown))}; known: {', '.join(known) or 'none'}."
        )
