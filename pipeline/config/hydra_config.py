"""Typed configuration: the schema of everything that may be set on the command line.

The schema is built from what is there: every ``pipeline/stages/<name>.py`` contributes ``Stage.schema``, or its
``<Name>Config`` dataclass, under the key ``<name>``, types and defaults in one place. A new stage therefore
needs no change here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from drafters.io.paths import REPOSITORY
from eval.suites.suite import SuiteConfig
from pipeline.runner.discovery import stage_names, stage_schema
from pipeline.text.corpus import CorpusConfig

CONF = REPOSITORY / "conf"


@dataclass
class PairConfig:
    """A target and a drafter."""

    name: str = MISSING
    target: str = MISSING  # local folder, or "org/name" on the Hub
    drafter: str = MISSING
    target_revision: str | None = None  # 40 hex digits
    drafter_revision: str | None = None
    foreign: bool | None = None  # the two tokenizers differ; null: found out by comparing them


@dataclass
class TrackingConfig:
    """Where metrics of a training go besides the CSV file that is always written."""

    wandb: str = "disabled"  # disabled | offline | online
    project: str = "drafters"


@dataclass
class HardwareConfig:
    """Who does the work that many processes can share."""

    backend: str = "local"  # local | ray | slurm
    address: str | None = None  # of a running Ray cluster; null: Ray is started on this machine
    # Of ray: processes with models of their own; null: as many as the GPUs allow, else one per machine
    workers: int | None = None
    gpus_per_worker: float = 0.0  # more than 1 for a target that is spread over several
    inside: str = "node"  # of slurm: the file of conf/hardware that holds within the job
    slurm: dict[str, Any] = field(default_factory=dict)  # what submitit's executor is given; null values are left out


@dataclass
class BaseConfig:
    """What every stage may read; the schema adds ``corpus``, ``suite`` and one field per stage."""

    stage: str = MISSING  # what to make, chosen by `stage=<name>`
    only: bool = False  # refuse to run the stages before it
    brief: bool = False  # a line per stage, and only the result of the one asked for
    runs_dir: str = "runs"
    device: str = "auto"  # auto | cpu | cuda | mps
    dtype: str = "auto"  # auto | fp32 | bf16
    # CPU threads: auto (what serves the models best, see pipeline.runner.cpu_threads) | a whole number
    threads: Any = "auto"
    seed: int = 0
    pair: PairConfig = MISSING
    stop: Any = MISSING  # a policy's arguments are its own
    stops: dict[str, Any] = field(default_factory=dict)  # all of conf/stop by name
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    executor: Any = MISSING  # how samplers are run: a file of conf/executor
    sampler: Any = None  # the one sampler to evaluate, a file of conf/sampler; null: eval.samplers
    samplers: dict[str, Any] = field(
        default_factory=dict
    )  # all of conf/sampler by name: a sampler's options are its own
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def register() -> None:
    """Store ``schema`` (all types and the stages' defaults), the group ``stage``, and ``samplers`` and ``stops`` (all of their
    folders) for conf/config.yaml."""
    schemas = {name: stage_schema(name) for name in stage_names()}
    fields: list[Any] = [
        ("corpus", mutable(CorpusConfig), field(default=MISSING)),
        ("suite", mutable(SuiteConfig), field(default=MISSING)),
    ]
    fields += [(name.replace("-", "_"), kind, field(default_factory=kind)) for name, kind in schemas.items() if kind]
    store = ConfigStore.instance()
    store.store(name="schema", node=make_dataclass("Config", fields, bases=(BaseConfig,)))
    for name in schemas:  # what is there to choose; its settings are in the schema
        store.store(group="stage", name=name, node={}, package="_global_")
    labels = sorted(path.stem for path in (CONF / "sampler").glob("*.yaml"))
    store.store(name="samplers", node={"defaults": [{f"/sampler@samplers.{label}": label} for label in labels]})
    policies = sorted(path.stem for path in (CONF / "stop").glob("*.yaml"))
    store.store(name="stops", node={"defaults": [{f"/stop@stops.{label}": label} for label in policies]})


def mutable(kind: type) -> type:
    """``kind`` without ``frozen``, which OmegaConf takes for "not even the command line may set it"."""
    hints = get_type_hints(kind)
    fields: list[Any] = []
    for item in dataclasses.fields(kind):
        made = item.default_factory is not dataclasses.MISSING
        default = field(default_factory=item.default_factory) if made else field(default=item.default)
        fields.append((item.name, hints[item.name], default))
    return make_dataclass(kind.__name__, fields)


def load(overrides: list[str], conf: Path = CONF) -> DictConfig:
    """Compose the configuration as the command line does; for tests and notebooks."""
    register()
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose("config", overrides, return_hydra_config=True)
    choices = OmegaConf.select(cfg, "hydra.runtime.choices")
    return finish(cfg, choices["stage"])


def finish(cfg: DictConfig, stage: str | None = None) -> DictConfig:
    """Record the chosen stage as ``cfg.stage`` and drop Hydra's own settings."""
    with open_dict(cfg):
        cfg.stage = stage or HydraConfig.get().runtime.choices["stage"]
        cfg.pop("hydra", None)
    return cfg
