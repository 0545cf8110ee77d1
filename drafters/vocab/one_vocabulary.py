"""Whether two vocabularies are one, in what they differ all the same, and which special stands for which where they are two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from drafters.vocab.spelling import Spelling


class _Entry(NamedTuple):
    token: str | None
    text: bytes | None
    loose: bool  # no ordinary text reaches it: a special, an added token, a hole


def _entry(spelled: Spelling, i: int) -> _Entry:
    """What one id is; beyond the rows as in a hole."""
    if i >= len(spelled.token):
        return _Entry(None, None, True)
    return _Entry(spelled.token[i], spelled.text[i], spelled.text[i] is None or i in spelled.added)


def same_vocabulary(target: Spelling, drafter: Spelling) -> bool:
    """Find out whether every id spells the same text in both: then they are one vocabulary.

    Roles (bos, eos, pad) and names of specials may differ, padded tails too, and either may have added tokens, such as
    turn markers, that the other lacks. A token of the trained vocabulary that only one of them has makes them two.
    """
    return next(_disagreements(target, drafter), None) is None


def _disagreements(target: Spelling, drafter: Spelling) -> Iterator[int]:
    """Ids, ascending, that stand for different texts."""
    for i in range(max(len(target.token), len(drafter.token))):
        ours, theirs = _entry(target, i), _entry(drafter, i)
        if ours.text is not None and theirs.text is not None:
            agree = ours.text == theirs.text
        else:
            agree = ours.token == theirs.token or (ours.loose and theirs.loose)
        if not agree:
            yield i


def differences(target: Spelling, drafter: Spelling) -> str:
    """Say in one line what differs between two vocabularies that are taken as one; "" where nothing does."""
    said, wrong = [], set(_disagreements(target, drafter))
    size = max(len(target.token), len(drafter.token))
    entries = [(i, _entry(target, i), _entry(drafter, i)) for i in range(size)]
    if wrong:
        said.append(f"{_many(len(wrong), 'id spells', 'ids spell')} other text, {_first(min(wrong), target, drafter)}")
    for role, ours, theirs in (("eos", target.eos, drafter.eos), ("bos", target.bos, drafter.bos)):
        if ours != theirs:
            said.append(f"{role} is {_named(target, ours)} of the target, {_named(drafter, theirs)} of the drafter")
    if renamed := [i for i, a, b in entries if i not in wrong and a.token and b.token and a.token != b.token]:
        said.append(
            f"{_many(len(renamed), 'special has', 'specials have')} two names, {_first(renamed[0], target, drafter)}"
        )
    for who, mine, other in (("target", target, drafter), ("drafter", drafter, target)):
        if only := [i for i, token in enumerate(mine.token) if token is not None and _entry(other, i).token is None]:
            said.append(
                f"{_many(len(only), 'token is', 'tokens are')} the {who}'s alone, first {_named(mine, only[0])}"
            )
    return "; ".join(said)


def _many(n: int, one: str, more: str) -> str:
    return f"{n:,} {one if n == 1 else more}"


def _first(i: int, target: Spelling, drafter: Spelling) -> str:
    return f"first id {i}: {_entry(target, i).token!r} of the target, {_entry(drafter, i).token!r} of the drafter"


def _named(spelled: Spelling, i: int | None) -> str:
    return "none" if i is None else f"id {i} {_entry(spelled, i).token!r}"


def counterparts(source: Spelling, into: Spelling) -> dict[int, int]:
    """Map the specials of one vocabulary, source id to the id that means the same in ``into``, where there is one.

    Within one vocabulary that is the id itself; else eos and bos go by role, eos first, then specials by their name
    (a turn marker that both know). pad and unk never (arXiv 2502.05202, Alg. 4), nor anything as the letters of its name.
    """
    specials = [i for i, token in enumerate(source.token) if token is not None and _entry(source, i).loose]
    if same_vocabulary(source, into):
        return {i: i for i in specials if i < len(into.token) and source.text[i] is None}
    found: dict[int, int] = {}
    for ours, theirs in ((source.eos, into.eos), (source.bos, into.bos)):
        if ours is not None and theirs is not None:
            found.setdefault(ours, theirs)
    named = {token: i for i, token in enumerate(into.token) if token and _entry(into, i).loose and i not in into.silent}
    for i in specials:
        other = named.get(str(source.token[i])) if i not in source.silent else None
        if other is not None and None in (source.text[i], into.text[other]):  # else they are text, and go by that
            found.setdefault(i, other)
    return found
