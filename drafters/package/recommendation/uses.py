"""Ways to decode that a recommendation may name: catalog names, options their builders take, sizes within bounds.

A recommendation comes from outside. What passes here can make decoding slow, never lossy, and never big.
"""

from collections.abc import Sequence
from typing import Any

from drafters.errors import DraftersError
from drafters.io.json_fields import Fields, is_integer, is_number
from drafters.samplers import catalog as samplers
from drafters.samplers.lossy_settings import LossyError
from drafters.samplers.tree.siblings import SIBLINGS
from drafters.stop import catalog as stops
from drafters.stop.policy import StopError
from drafters.vocab.alignment import identity

PACKAGE, TAIL, UNPRUNED = FORMS = ("package", "tail", "unpruned")
LONGEST = 64  # drafted tokens per round, levels of a tree
MOST_NODES = 64  # of a tree: one target forward verifies them all
WORDS = {"siblings": tuple(SIBLINGS)}
_ANY = identity(2)


def check_use(use: Fields) -> None:
    """Refuse what no builder of the catalogs takes; ``use`` is the object {form, sampler, options, stop, length}.

    Plain decoding has null everywhere and no options. Raises PackageError.
    """
    use.keys(("form", "sampler", "options", "stop", "length"))
    options = use.child("options")
    if use.null("sampler"):
        for name in ("form", "stop", "length"):
            if not use.null(name):
                raise use.wrong(name, "null, as sampler is null: plain decoding", use.data[name])
        options.keys(())
        return
    form = use.one_of("form", FORMS)
    sampler = use.one_of("sampler", samplers.CATALOG)
    if sampler == "tail" and form != TAIL:
        raise use.wrong("form", "tail, as the sampler is tail", form)
    _check_options(use, options, sampler)
    _check_stop(use)


def drafts_trees(sampler: str) -> bool:
    """Whether a sampler of the catalog takes the shape of a tree."""
    return "branching" in samplers.CATALOG[sampler].options


def stop_options(stop: str, length: int | None) -> dict[str, int]:
    """The option of a stop policy that ``length`` is: of static its length, of all others the longest round."""
    if length is None:
        return {}
    return {"length" if stop == "static" else "max_length": length}


def _check_options(use: Fields, options: Fields, sampler: str) -> None:
    try:
        samplers.check_options(sampler, options.data)
    except LossyError as error:
        raise use.wrong("options", "no setting that relaxes acceptance", str(error)) from None
    except ValueError as error:
        raise use.wrong("options", f"options of the sampler {sampler}", str(error)) from None
    for name, value in options.data.items():
        if not _within_bounds(name, value):
            raise options.wrong(name, _BOUNDS.get(name, f"one of {', '.join(WORDS.get(name, ()))}"), value)
    if not samplers.applies(sampler, _ANY, tail=True):  # must know more of the pair; its words were checked above
        return
    try:
        samplers.build(sampler, _ANY, options.data, tail=True)
    except (DraftersError, ValueError, TypeError, IndexError) as error:
        raise use.wrong("options", f"options of the sampler {sampler}", str(error)) from None


_BOUNDS = {
    "branching": f"a strategy's name, or children by depth: at most {MOST_NODES} nodes and {LONGEST} levels",
    "nodes": f"an integer from 1 to {MOST_NODES}",
    "depth": f"null, or an integer from 1 to {LONGEST}",
    "rank_law": f"null, or at most {MOST_NODES} probabilities",
}


def _within_bounds(name: str, value: Any) -> bool:
    """Whether an option's value is small enough to be given to its builder; an option unknown here never is."""
    if name in WORDS:
        return isinstance(value, str) and value in WORDS[name]
    if name == "nodes":
        return is_integer(value, 1, MOST_NODES)
    if name == "depth":
        return value is None or is_integer(value, 1, LONGEST)
    if name == "rank_law":
        return value is None or (_short(value) and all(is_number(share, 0, 1) for share in value))
    if name == "branching":
        return value in (*samplers.STRATEGIES, "tunstall") if isinstance(value, str) else _small_tree(value)
    return False


def _short(value: object) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= MOST_NODES


def _small_tree(branching: Sequence[Any]) -> bool:
    """Whether a shape has at most MOST_NODES nodes; counted level by level, so that a large one is never laid out."""
    if not _short(branching):
        return False
    level, nodes = 1, 0
    for counts in branching:
        each = [counts] if is_integer(counts, 0, MOST_NODES) else counts
        if not _short(each) or not all(is_integer(count, 0, MOST_NODES) for count in each):
            return False
        level = level * each[0] if each is not counts else sum(each)
        nodes += level
        if nodes > MOST_NODES:
            return False
    return True


def _check_stop(use: Fields) -> None:
    stop = use.one_of("stop", stops.CATALOG)
    length = None if use.null("length") and stop != "static" else use.integer("length", 1, LONGEST)
    if stop in stops.TRAINED:
        return  # whether the package has the trained part is seen when it is used
    try:
        stops.build(stop, stop_options(stop, length))
    except StopError as error:
        raise use.wrong("length", f"a longest round that the stop policy {stop} can have", str(error)) from None
