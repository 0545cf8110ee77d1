"""The trained network and its numbers as a package holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from drafters.io.atomic import write_atomic
from drafters.io.json_rules import check_stop_config
from drafters.package.components import STOP_CONFIG, STOP_WEIGHTS, StopModel
from drafters.stop.features import NAMES
from pipeline.disco.calibration import platt
from pipeline.disco.classifier_module import OUTPUTS, DiscoModule
from pipeline.disco.traces.trace_rows import Rows


def component(module: DiscoModule, validation: Rows, hidden: list[int]) -> StopModel:
    """The network with Platt's calibration on the validation rows; policies' numbers are added by `with_parameters`."""
    with torch.inference_mode():
        logits = module(validation.features)  # (N, 2)
    parameters: dict[str, float] = {}
    for output, name in enumerate(OUTPUTS):
        rows = validation.known[:, output]
        slope, shift = platt(logits[rows, output], validation.label[rows, output])
        parameters |= {f"slope.{name}": slope, f"shift.{name}": shift}
    tensors: dict[str, Tensor] = {"mean": module.mean, "scale": module.scale}
    for number, layer in enumerate(module.layers):
        tensors |= {f"layers.{number}.weight": layer.weight, f"layers.{number}.bias": layer.bias}  # type: ignore[dict-item]
    config = {
        "name": "disco",
        "features": list(NAMES),
        "hidden": hidden,
        "outputs": len(OUTPUTS),
        "activation": "relu",
        "threshold": 0.5,
        "parameters": parameters,
        "trained_on": {},
    }
    return StopModel(config, {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()})


def with_parameters(
    model: StopModel, tuned: Mapping[float, Mapping[str, float]], trained_on: Mapping[str, Any]
) -> StopModel:
    """The same with each temperature's numbers, as `drafters.stop.catalog` reads them, and what it is valid for.

    Raises PackageError for what a package would refuse.
    """
    parameters = dict(model.config["parameters"])
    for temperature, numbers in tuned.items():
        parameters |= {f"{name}.{temperature:g}": value for name, value in numbers.items()}
    threshold = next(iter(tuned.values()))["disco_threshold"]
    config = model.config | {"threshold": threshold, "parameters": parameters, "trained_on": dict(trained_on)}
    check_stop_config(config)
    return StopModel(config, model.tensors)


def write_component(model: StopModel, folder: Path) -> None:
    """``stop/model.safetensors`` and ``stop/config.json`` below `folder`."""
    (folder / STOP_WEIGHTS).parent.mkdir(exist_ok=True)
    write_atomic(folder / STOP_WEIGHTS, save(model.tensors))
    text = json.dumps(model.config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_atomic(folder / STOP_CONFIG, text.encode())
