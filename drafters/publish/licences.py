"""What a drafter's licence asks of whoever publishes a pruned copy of it.

A pruned model is a derivative of the model it was made from, so it carries that licence on; it can be given no laxer
one. Names are the Hub's (its list of ``license:`` values, SPDX in lower case). This is a check against slips, not legal
advice: a licence that is not listed is refused rather than guessed at.
"""

import re
from dataclasses import dataclass

from drafters.errors import DraftersError

PERMISSIVE = frozenset({
    "apache-2.0", "mit", "mit-0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "ncsa", "zlib",
    "unlicense", "wtfpl", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cdla-permissive-1.0",
    "cdla-permissive-2.0", "odc-by", "pddl", "ecl-2.0", "ms-pl", "postgresql", "afl-3.0", "artistic-2.0", "bsl-1.0",
})  # fmt: skip
SHARE_ALIKE = frozenset({
    "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "mpl-2.0",
    "eupl-1.1", "eupl-1.2", "osl-3.0", "odbl", "epl-1.0", "epl-2.0", "gfdl",
})  # fmt: skip
NON_COMMERCIAL = frozenset({
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "apple-amlr", "fair-noncommercial-research-license", "intel-research",
})  # fmt: skip
# Their text must travel with every copy, because it binds the next user too.
USE_RESTRICTED = frozenset({
    "openrail", "openrail++", "creativeml-openrail-m", "bigscience-openrail-m", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "deepfloyd-if-license", "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3",
    "llama4",
})  # fmt: skip
NO_DERIVATIVES = frozenset({"cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"})
OTHER = "other"
_RESTRICTIONS = re.compile(
    r"use[\s-]*(?:based\s+)?restrictions|attachment\s+a\b|acceptable\s+use\s+policy|prohibited\s+use", re.I
)
_LINK = re.compile(r"https?://\S+|LICENSE(?:\.\w+)?")
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
# Llama's licences from 3 on: the name of a model made with it begins with "Llama", and the card says what it was built with.
_LLAMA = re.compile(r"llama[3-9].*")


class LicenceError(DraftersError):
    """A package that may not be published under the licence it states, or whose licence is not known."""


@dataclass(frozen=True)
class Licence:
    """What goes into the card: ``name`` as the Hub has it; for ``other`` also the licence's own name and link."""

    name: str
    own_name: str | None = None
    link: str | None = None

    @property
    def obligations(self) -> tuple[str, ...]:
        """Sentences for the card: what the licence asks of the next user."""
        if self.name in USE_RESTRICTED:
            found = ["Use restrictions apply to this copy and to whatever is made from it: see LICENSE."]
            return (*found, "Built with Llama.") if _LLAMA.fullmatch(self.name) else tuple(found)
        if self.name in NON_COMMERCIAL:
            return ("Non-commercial use only.",)
        if self.name in SHARE_ALIKE:
            return ("Copies and derivatives stay under the same licence.",)
        if self.name == OTHER:
            return (f"The terms of {self.own_name} apply: see LICENSE.",)
        return ()


def inherit(
    source: str | None,
    text: str,
    *,
    declared: str | None = None,
    own_name: str | None = None,
    link: str | None = None,
    repository: str = "",
) -> Licence:
    """The licence under which a pruned copy may be published.

    Args:
        source: name of the drafter's licence, None if not known. text: content of the LICENSE file to be published.
        declared: what the user wants to publish under, None for the same. own_name, link: for ``other``.
        repository: ``org/name``, since some licences rule the name.

    Raises:
        LicenceError: unknown or no licence, one that allows no derivatives, a declared one that differs, a name or link
            that ``other`` needs, a LICENSE file that lacks the restrictions it must carry on, or a forbidden name.
    """
    if source is None:
        raise LicenceError(
            "the drafter's licence is not known, so no copy can be published: look it up where the drafter is from, then "
            "set package.licence (and package.licence_file) and make the package again"
        )
    if declared is not None and declared != source:
        raise LicenceError(
            f"publish.licence={declared}, but the drafter's weights are under {source}, which a pruned copy inherits: "
            "leave publish.licence out, or correct package.licence"
        )
    if source in NO_DERIVATIVES:
        raise LicenceError(f"the drafter's licence {source} allows no derivatives, and a pruned model is one")
    if not text.strip():
        raise LicenceError("LICENSE is empty: set package.licence_file to the drafter's licence and package it again")
    if source == OTHER:
        return _other(own_name, link)
    if source not in PERMISSIVE | SHARE_ALIKE | NON_COMMERCIAL | USE_RESTRICTED:
        raise LicenceError(
            f"the licence {source!r} is not one that Drafters knows the terms of: if it allows derivatives, set "
            "package.licence=other, publish.licence_name and publish.licence_link"
        )
    if source in USE_RESTRICTED:
        _check_restricted(source, text, repository)
    return Licence(source)


def _other(own_name: str | None, link: str | None) -> Licence:
    if not own_name or not _NAME.fullmatch(own_name):
        raise LicenceError(
            f"publish.licence_name={own_name}: a licence of its own needs its name in lower case, such as "
            "my-model-licence-1.0"
        )
    if not link or not _LINK.fullmatch(link):
        raise LicenceError(f"publish.licence_link={link}: expected the address of the licence, or LICENSE")
    return Licence(OTHER, own_name, link)


def _check_restricted(source: str, text: str, repository: str) -> None:
    if not _RESTRICTIONS.search(text):
        raise LicenceError(
            f"LICENSE does not hold the use restrictions that {source} asks every copy to carry: set "
            "package.licence_file to the licence's full text and make the package again"
        )
    name = repository.rpartition("/")[2]
    if _LLAMA.fullmatch(source) and name and not name.lower().startswith("llama"):
        raise LicenceError(f'publish.repo={repository}: {source} asks for a name that begins with "Llama"')
