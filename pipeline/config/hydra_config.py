"""Typed configuration: the schema of everything that may be set on the command line.

The schema is built from what is there: every ``pipeline/stages/<name>.py`` contributes ``Stage.schema``, or its
``<Name>Config`` dataclass, under the key ``<name>``, types and defaults in one place. A new stage therefore
needs no change here. `check` looks at what types cannot express, before anything runs; models and corpora are looked at where their content
enters the keys (``pipeline.runner.content_key.external_hash``), and a stage's own settings by its ``Stage.check``. `explain` puts errors of
Hydra and OmegaConf into one sentence: what is wrong, the nearest valid name, how to list them all.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from eval.suites.suite import SuiteConfig
from pipeline.config.settings import CONF, HardwareConfig, PairConfig, TrackingConfig
from pipeline.errors import ConfigError
from pipeline.runner import cpu_threads
from pipeline.runner.discovery import stage_names, stage_schema, suggest
from pipeline.text.corpus import CorpusConfig

LIST_SETTINGS = "list all settings with: python -m pipeline stage=<name> --cfg job"
CHOICES = {
    "device": ("auto", "cpu", "cuda", "mps"),
    "dtype": ("auto", "fast", "fp32", "bf16"),
    "hardware.backend": ("local", "ray", "slurm"),
    "tracking.wandb": ("disabled", "offline", "online"),
}


@dataclass
class BaseConfig:
    """What every stage may read; the schema adds ``corpus``, ``suite`` and one field per stage."""

    stage: str = MISSING  # what to make, chosen by `stage=<name>`
    only: bool = False  # refuse to run the stages before it
    brief: bool = False  # a line per stage, and only the result of the one asked for
    runs_dir: str = "runs"
    device: str = "auto"  # auto | cpu | cuda | mps
    dtype: str = "auto"  # auto | fp32 | bf16 | fast: bf16 also on a CPU that multiplies in it
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
        if cfg.stage in ("cut", "generate") and OmegaConf.is_missing(cfg.pair, "drafter"):
            cfg.pair.drafter = cfg.pair.target  # they and what they read read the target alone
            cfg.pair.drafter_revision = cfg.pair.target_revision
    return cfg


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for a value outside its choices or a setting that `+` smuggled in."""
    for name, choices in CHOICES.items():
        if (value := OmegaConf.select(cfg, name)) not in choices:
            raise ConfigError(f"{name}={value}: {suggest(str(value), choices)}")
    cpu_threads.check(cfg.threads)
    if cfg.hardware.workers is not None and cfg.hardware.workers < 1:
        raise ConfigError(f"hardware.workers={cfg.hardware.workers}: expected a whole number from 1, or null")
    if not cfg.hardware.gpus_per_worker >= 0:
        raise ConfigError(f"hardware.gpus_per_worker={cfg.hardware.gpus_per_worker}: expected a number from 0")
    for name, siblings in unknown_settings(cfg):
        raise ConfigError(f"{name}: no such setting; {suggest(name, siblings)}")


def unknown_settings(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Dotted names of settings that no dataclass declares, each with its declared siblings."""
    kind = OmegaConf.get_type(cfg)
    declared = [item.name for item in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None
    for name in map(str, cfg):
        if declared is not None and name not in declared:
            yield f"{prefix}{name}", [prefix + item for item in declared]
        elif not OmegaConf.is_missing(cfg, name) and isinstance(value := cfg[name], DictConfig):
            yield from unknown_settings(value, f"{prefix}{name}.")


def explain(error: Exception) -> ConfigError | None:
    """The same error in words meant for the user; None when it is not an error of the configuration."""
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        place = "modules of pipeline/stages" if group == "stage" else f"files of conf/{group}"
        text = f"{group}={choice}: no such {group}; {suggest(choice, error.options or [])} ({place})"
    elif isinstance(error, OverrideParseException):
        text = f"{error.override}: expected key=value; quote special characters: 'key=\"...\"'"
    elif isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        text = f"{cause.full_key}: no such setting; {_nearest(cause)}"
    elif isinstance(cause, MissingMandatoryValue):
        text = f"{cause.full_key}: no value; set it with {cause.full_key}=..."
    elif isinstance(cause, OmegaConfBaseException):
        text = f"{cause.full_key}: {_expected(cause, error)}; {LIST_SETTINGS}"
    elif "You must specify 'stage'" in str(error):
        text = f"say what to make with stage=<name>: {', '.join(stage_names())}"
    elif isinstance(error, HydraException) or _is_bad_override(error):
        null = (
            "a group was set to null: choose one of its files by name, or leave it out"
            if _is_bad_override(error)
            else ""
        )
        text = f"{null or str(error).splitlines()[0]}; {LIST_SETTINGS}"
    else:
        return None
    return ConfigError(text)


def _expected(cause: OmegaConfBaseException, error: Exception) -> str:
    """What a value should have been, where OmegaConf says it in terms of its own classes."""
    said, given = str(cause.msg or cause).splitlines()[0], str(error).partition("=")[2]
    if "is not a ListConfig" in said:
        return f"expected a list: {cause.full_key}=[{given}]"
    if "to Dict[" in said:
        return f"expected names with values, got {given}: '{cause.full_key}={{NAME: VALUE}}'"
    if "is not Optional" in said:
        return f"null is no value here; set it with {cause.full_key}=..."
    return said


def _nearest(error: OmegaConfBaseException) -> str:
    """The nearest sibling of a mistyped key; OmegaConf hands over the node in which the key was looked up."""
    parent = error.parent_node
    prefix = str(error.full_key)[: -len(str(error.key))]
    names = [prefix + str(name) for name in parent if name != "hydra"] if isinstance(parent, DictConfig) else []
    return suggest(str(error.full_key), names) if names else LIST_SETTINGS


def _is_bad_override(error: Exception) -> bool:
    """Hydra raises a bare ValueError for a group set to something that is not a name."""
    return isinstance(error, ValueError) and re.match(r"Config group override", str(error)) is not None
