"""Typed configuration: the schema of everything that may be set on the command line.

The schema is built from what is there: every ``pipeline/stages/<name>.py`` contributes ``Stage.schema``, or its ``<Name>Config``
dataclass, under the key ``<name>``, and ``conf/stage/<name>.yaml`` its values. A new stage therefore needs no change here.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, open_dict

from pipeline.closure import ROOT

CONF = ROOT / "conf"
GROUPS = ("pair", "corpus", "suite", "stop")


@dataclass
class PairConfig:
    """A target and a drafter."""

    name: str = MISSING
    target: str = MISSING  # local folder, or "org/name" on the Hub
    drafter: str = MISSING
    target_revision: str | None = None  # 40 hex digits; a Hub model needs one
    drafter_revision: str | None = None
    foreign: bool = False  # the two tokenizers differ


@dataclass
class BaseConfig:
    """What every stage may read."""

    stage: str = MISSING  # what to make; chosen by `stage=<name>`
    only: bool = False  # refuse to run the stages before it
    runs_dir: str = "runs"
    device: str = "auto"  # auto | cpu | cuda | mps
    dtype: str = "auto"  # auto | fp32 | bf16
    threads: int | None = None  # CPU threads, null for all
    seed: int = 0
    pair: PairConfig = field(default_factory=PairConfig)
    corpus: Any = None
    suite: Any = None
    stop: Any = None


@functools.cache
def stage_names(package: str = "pipeline.stages") -> tuple[str, ...]:
    """Names of all stages, as on the command line."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return tuple(sorted(item.name.replace("_", "-") for item in found))


def stage_schema(name: str, package: str = "pipeline.stages") -> type | None:
    """The dataclass that types ``cfg[<name>]``; None for a stage without settings."""
    field_name = name.replace("-", "_")
    module = importlib.import_module(f"{package}.{field_name}")
    declared = module.STAGE.schema
    camel = "".join(word.capitalize() for word in field_name.split("_"))
    return declared or getattr(module, f"{camel}Config", None)


def register() -> None:
    """Store the schema under the name ``schema``, where conf/config.yaml's defaults list finds it."""
    stages = [(name.replace("-", "_"), stage_schema(name)) for name in stage_names()]
    fields = [(name, schema, field(default_factory=schema)) for name, schema in stages if schema is not None]
    ConfigStore.instance().store(name="schema", node=make_dataclass("Config", fields, bases=(BaseConfig,)))
    defaults = [f"/stage/{name}" for name in stage_names() if (CONF / "stage" / f"{name}.yaml").is_file()]
    ConfigStore.instance().store(name="stages", node={"defaults": defaults})


def load(overrides: list[str], conf: Path = CONF) -> DictConfig:
    """Compose the configuration as the command line does; for tests and notebooks."""
    register()
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose("config", overrides, return_hydra_config=True)
        return finish(cfg, cfg.hydra.runtime.choices["stage"])


def finish(cfg: DictConfig, stage: str | None = None) -> DictConfig:
    """Record the chosen stage as ``cfg.stage`` and drop Hydra's own settings."""
    with open_dict(cfg):
        cfg.stage = stage or HydraConfig.get().runtime.choices["stage"]
        cfg.pop("hydra", None)
    return cfg
