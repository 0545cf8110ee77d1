"""Samplers with their options, as the files of conf/sampler hold them. A file may be a second one for the same builder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from drafters.io.paths import CONF
from drafters.samplers.catalog import CATALOG, Group, applies, build, check_options
from drafters.vocab.alignment import identity

_ANY = identity(2)
FOLDER = CONF / "sampler"


@dataclass(frozen=True)
class Preset:
    """One file of conf/sampler, or its settings as the command line changed them."""

    label: str  # the file's name
    name: str  # of the catalog
    options: Mapping[str, Any] = field(default_factory=dict)  # of the builder; none: its defaults

    @property
    def plain(self) -> bool:
        """Whether this is the builder's own file, and not a further variant of it."""
        return self.label == self.name

    def in_group(self, group: Group) -> bool:
        """Whether it is a group's sampler with its usual options: a further variant takes no part in comparisons."""
        return self.plain and group in CATALOG[self.name].groups


def parse(settings: Mapping[str, Mapping[str, Any]], chosen: Collection[str] | None = None) -> list[Preset]:
    """Presets of label -> {"name": ..., option: value, ...}, in the catalog's order, variants behind the builder's own.

    Args:
        chosen: labels to keep; None: all.

    Raises:
        ValueError: a label that is not there, a name that is not in the catalog, or an option that its builder does not have.
    """
    for label in chosen or ():
        if label not in settings:
            raise ValueError(f"{label}: no such sampler; choose from {', '.join(settings)}")
    every = [_preset(label, values) for label, values in settings.items()]  # a wrong one is told, chosen or not
    found = [preset for preset in every if chosen is None or preset.label in chosen]
    names = list(CATALOG)
    return sorted(found, key=lambda preset: (names.index(preset.name), not preset.plain, preset.label))


def read(folder: Path = FOLDER, chosen: Collection[str] | None = None) -> list[Preset]:
    """The presets of a folder. Raises ValueError as `parse` does."""
    files = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in sorted(folder.glob("*.yaml"))}
    return parse(files, chosen)  # type: ignore[arg-type]


def _preset(label: str, values: Mapping[str, Any]) -> Preset:
    options = {str(key): value for key, value in values.items() if key != "name"}
    name = values.get("name")
    if not isinstance(name, str):
        raise ValueError(f"sampler {label}: expected `name:`, one of {', '.join(CATALOG)}, got {name!r}")
    check_options(name, options)
    if applies(name, _ANY):  # values, too, where nothing but an option can be refused
        build(name, _ANY, options)
    return Preset(label, name, options)
