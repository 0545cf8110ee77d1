"""The executors that a configuration asks for: speculative decoding always, the distributed one beside it."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from drafters.distributed.executor import Distributed
from drafters.distributed.plan import Plan, PlanError
from drafters.engine.decode import Executor, Speculative
from eval.run.records import DISTRIBUTED, SPECULATIVE
from pipeline.errors import ConfigError
from pipeline.runner.discovery import suggest

OPTIONS = {SPECULATIVE: (), DISTRIBUTED: ("servers", "lookahead", "backend", "address", "gpus")}
BACKENDS = ("threads", "ray")


def executors(cfg: DictConfig) -> dict[str, Executor]:
    """Name -> executor. Raises what `drafters.distributed.backends.ray.require_ray` does where Ray is asked for."""
    found: dict[str, Executor] = {SPECULATIVE: Speculative()}
    values = settings(cfg)
    if values["name"] == DISTRIBUTED:
        found[DISTRIBUTED] = distributed(values)
    return found


def distributed(values: dict[str, Any]) -> Distributed:
    """The executor of conf/executor/distributed.yaml."""
    if values["backend"] == "ray":
        from drafters.distributed.backends.ray import RayClusters

        return Distributed(values["servers"], values["lookahead"], RayClusters(values["address"], values["gpus"]))
    return Distributed(values["servers"], values["lookahead"])


def devices(cfg: DictConfig) -> dict[str, int]:
    """Devices that each executor's rows are measured on; 1 where it is not said."""
    values = settings(cfg)
    many = values["name"] == DISTRIBUTED and values["backend"] == "ray" and values["gpus"] > 0
    return {DISTRIBUTED: values["servers"] + 1} if many else {}


def settings(cfg: DictConfig) -> dict[str, Any]:
    """`executor` as a dictionary."""
    if OmegaConf.is_missing(cfg, "executor") or "executor" not in cfg:
        return {"name": SPECULATIVE}
    values: Any = OmegaConf.to_container(cfg.executor, resolve=True, throw_on_missing=True)
    return values if isinstance(values, dict) else {"name": values}


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for an executor or an option that does not exist or cannot work."""
    values = settings(cfg)
    name = str(values.get("name"))
    if name not in OPTIONS:
        raise ConfigError(f"executor={name}: no such executor; {suggest(name, list(OPTIONS))}")
    for option in values.keys() - {"name"} - set(OPTIONS[name]):
        raise ConfigError(f"executor.{option}: executor={name} has no such option; {suggest(option, OPTIONS[name])}")
    if name != DISTRIBUTED:
        return
    if values["backend"] not in BACKENDS:
        raise ConfigError(f"executor.backend={values['backend']}: choose one of: {', '.join(BACKENDS)}")
    try:
        Plan(1 if values["lookahead"] is None else values["lookahead"], values["servers"])
    except PlanError as error:
        raise ConfigError(str(error)) from error
