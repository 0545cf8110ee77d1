"""Finds stages by their file name: ``pipeline/stages/train_disco.py`` is the stage ``train-disco``."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable

from pipeline.errors import ConfigError, PipelineError
from pipeline.runner.stage import Stage

STAGES = "pipeline.stages"


def stage_names(package: str = STAGES) -> list[str]:
    """Names of all stages as on the command line, sorted."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return sorted(item.name.replace("_", "-") for item in found)


def load_stage(name: str, package: str = STAGES) -> tuple[Stage, str]:
    """The stage called ``name`` and the name of its module.

    Raises ConfigError for an unknown name and PipelineError when the module defines no STAGE of that name.
    """
    if name not in (names := stage_names(package)):
        raise ConfigError(f"stage={name}: no such stage; {suggest(name, names)}")
    module = f"{package}.{name.replace('-', '_')}"
    stage = getattr(importlib.import_module(module), "STAGE", None)
    if not isinstance(stage, Stage) or stage.name != name:
        raise PipelineError(f"{module}: expected STAGE = Stage(name={name!r}, ...), got {stage!r}")
    return stage, module


def stage_schema(name: str, package: str = STAGES) -> type | None:
    """The dataclass of the stage's settings: ``Stage.schema``, else ``<Name>Config`` of its module, else None."""
    stage, module = load_stage(name, package)
    camel = "".join(word.capitalize() for word in stage.field.split("_"))
    return stage.schema or getattr(importlib.import_module(module), f"{camel}Config", None)


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest known one, and all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"did you mean {near[0]}? " if near else "") + f"choose one of: {', '.join(known) or 'none available'}"
