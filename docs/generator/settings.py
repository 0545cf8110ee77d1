"""docs/reference/settings.md: every key of the command line, with its default and what it means, from the code."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from docs.generator.markdown import page as as_page
from docs.generator.markdown import table
from drafters.samplers import catalog as samplers
from drafters.stop import catalog as stops
from eval.command_line import comments_of
from eval.suites.suite import SuiteConfig
from pipeline.config import hydra_config as config
from pipeline.config import settings as shared
from pipeline.runner.discovery import stage_names, stage_schema
from pipeline.text.corpus import CorpusConfig

INTRODUCTION = (
    "All settings are keys of one [Hydra](https://hydra.cc) configuration: `python -m pipeline stage=prune prune.fraction=0.1`, or "
    '`make prune ARGS="prune.fraction=0.1"`. `python -m pipeline stage=prune --cfg job` prints the whole composed configuration. A '
    "misspelt key, or a value of a wrong type, is answered with the nearest that exists. `null` means: not set."
)
GROUPS = ("pair", "corpus", "suite", "stop", "sampler", "executor", "hardware", "experiment")
REQUIRED = "(required)"


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Files to choose from", _groups(), "## Every stage", _of(config.BaseConfig, "", None)]
    for name, kind in (
        ("pair", shared.PairConfig),
        ("hardware", shared.HardwareConfig),
        ("tracking", shared.TrackingConfig),
    ):
        parts += [f"### {name}", _of(kind, f"{name}.", None)]
    parts += ["### corpus", _of(CorpusConfig, "corpus.", None), "### suite", _of(SuiteConfig, "suite.", None)]
    parts += ["## Stages", *_stages(), "## Samplers", _options("sampler", samplers.CATALOG)]
    return as_page("Settings", *parts, "## Stop policies", _options("stop", stops.CATALOG))


def _groups() -> str:
    rows = [[f"`{group}=`", ", ".join(f"`{path.stem}`" for path in _files(group))] for group in GROUPS]
    return table(["group", "files of `conf/<group>`"], rows)


def _files(group: str) -> list[Path]:
    return sorted((shared.CONF / group).glob("*.yaml"))


def _stages() -> list[str]:
    cfg = config.load(["stage=count"])
    parts = []
    for name in stage_names():
        kind = stage_schema(name)
        if kind is not None:
            field = name.replace("-", "_")
            parts += [f"### {name}", _of(kind, f"{field}.", OmegaConf.to_container(cfg[field]))]
    return parts


def _of(kind: type, prefix: str, values: Any) -> str:
    """The fields of a dataclass: key, default, comment. ``values``: as composed, in place of the class's own defaults."""
    comments = comments_of(kind)
    rows = []
    for item in dataclasses.fields(kind):
        value = _default(item) if values is None else values[item.name]
        rows.append([f"`{prefix}{item.name}`", f"`{_shown(value)}`", comments.get(item.name, "")])
    return table(["key", "default", "meaning"], rows)


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        made = item.default_factory()
        return {} if dataclasses.is_dataclass(made) else made
    return REQUIRED if item.default is dataclasses.MISSING or item.default == "???" else item.default


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value)


def _options(group: str, builders: dict[str, Any]) -> str:
    """The files of a group, the builder each names, and the options that it sets."""
    rows = []
    for path in _files(group):
        values = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(values, dict)
        name = values.pop("name")
        known = builders[name].options.values()
        shown = [f"`{item.name}={_shown(values.get(item.name, item.default))}`" for item in known]
        rows.append([f"`{path.stem}`", f"`{name}`", ", ".join(shown)])
    where = "samplers.<name>.<option>" if group == "sampler" else "stop.<option>"
    return f"Set an option by `{where}`.\n\n{table(['file', 'builder', 'options'], rows)}"
