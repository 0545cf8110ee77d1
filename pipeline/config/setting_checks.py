"""Checks of a composed configuration that its types cannot express, made before anything runs.

Models and corpora are checked where their content enters the keys (``pipeline.runner.content_key.external_hash``), and a stage's own
settings by its ``Stage.check``: both also before anything runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from pipeline.errors import ConfigError
from pipeline.runner import cpu_threads
from pipeline.runner.discovery import suggest

CHOICES = {
    "device": ("auto", "cpu", "cuda", "mps"),
    "dtype": ("auto", "fp32", "bf16"),
    "hardware.backend": ("local", "ray", "slurm"),
    "tracking.wandb": ("disabled", "offline", "online"),
}


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
