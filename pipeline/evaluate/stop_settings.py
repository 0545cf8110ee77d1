"""The stop policies that a configuration asks for."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from drafters.stop.catalog import TRAINED, build
from drafters.stop.classifier import Trained
from drafters.stop.policy import StopPolicy
from pipeline.errors import ConfigError


def policies(cfg: DictConfig, temperature: float = 1.0, trained: Trained | None = None) -> dict[str, StopPolicy]:
    """Name of its file in conf/stop -> policy, every one of them a row. `trained`: the package's stop slot.

    Raises StopError as `drafters.stop.catalog.build` does.
    """
    return {
        label: build(
            options["name"], {k: v for k, v in options.items() if k != "name"}, temperature=temperature, trained=trained
        )
        for label, options in files(cfg).items()
    }


def files(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """The settings of the stop policies that are asked for, by the name of their file in conf/stop."""
    every: Any = OmegaConf.to_container(cfg.stops, resolve=True)
    if cfg.eval.stops is not None:
        return {str(name): every[name] for name in cfg.eval.stops}
    one: Any = OmegaConf.to_container(cfg.stop, resolve=True, throw_on_missing=True)
    label = next((name for name, values in every.items() if values == one), str(one.get("name")))
    return {label: one}


def check(cfg: DictConfig) -> None:
    """Raise StopError or ConfigError for options that are wrong, and for a trained policy without a training.

    Trained policies are built when the package is open.
    """
    for label, options in files(cfg).items():
        if options["name"] not in TRAINED:
            build(options["name"], {name: value for name, value in options.items() if name != "name"})
        elif not cfg.train_disco.enabled:
            raise ConfigError(
                f"stop={label}: it needs a trained classifier in the package: add train_disco.enabled=true, which trains one "
                "first, or choose stop=confidence, which needs none"
            )
