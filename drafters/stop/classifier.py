"""The trained part of a stop policy: a small network from the features of a draw to calibrated probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from drafters.stop.classifier_host import HostNetwork
from drafters.stop.features import NAMES
from drafters.stop.policy import StopError

ACCEPTED, NEXT = range(2)  # outputs: this draw is accepted; given that, the next one is
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class Trained(Protocol):
    """A package's stop slot (`drafters.package.components.StopModel`)."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its `stop/config.json`: features, hidden, outputs, activation, threshold, parameters, trained_on."""
        ...

    @property
    def tensors(self) -> dict[str, Tensor]:
        """mean (F,), scale (F,), layers.<i>.weight (out, in), layers.<i>.bias (out,)."""
        ...


class Classifier:
    """Features (B, F) -> probabilities (B, 2), see ACCEPTED and NEXT.

    Standardisation is folded into the first layer and Platt's calibration into the last one, so that a draw costs three matrix
    products. Raises StopError for a model trained on other features than this version computes.
    """

    def __init__(self, trained: Trained):
        config, tensors = trained.config, trained.tensors
        if tuple(config["features"]) != NAMES or config["outputs"] != 2:
            raise StopError(
                f"stop/config.json: this classifier reads {', '.join(config['features'])} and gives {config['outputs']} scores, "
                f"expected {', '.join(NAMES)} and 2: train it again with this version (make train-disco)"
            )
        self._activation = ACTIVATIONS[config["activation"]]
        depth = len(config["hidden"]) + 1
        self._layers = [(tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(depth)]
        self._layers = [(weight.double(), bias.double()) for weight, bias in self._layers]
        self._fold(tensors["mean"].double(), tensors["scale"].double(), config["parameters"])

    def _fold(self, mean: Tensor, scale: Tensor, parameters: Mapping[str, float]) -> None:
        weight, bias = self._layers[0]
        weight = weight / scale
        self._layers[0] = weight, bias - weight @ mean
        slope, shift = (
            weight.new_tensor([parameters.get(f"{kind}.{name}", default) for name in ("accepted", "next")])
            for kind, default in (("slope", 1.0), ("shift", 0.0))
        )
        weight, bias = self._layers[-1]
        self._layers[-1] = slope.unsqueeze(-1) * weight, slope * bias + shift
        self._layers = [(weight.float(), bias.float()) for weight, bias in self._layers]
        self._host = HostNetwork(self._layers)

    def __call__(self, features: Tensor) -> Tensor:
        """The two probabilities (B, 2) of features (B, F)."""
        if features.device.type == "cpu" and self._activation is F.relu:
            return self._host(features)
        if self._layers[0][0].device != features.device:
            self._layers = [(weight.to(features.device), bias.to(features.device)) for weight, bias in self._layers]
        hidden = features
        for weight, bias in self._layers[:-1]:
            hidden = self._activation(F.linear(hidden, weight, bias))
        return F.linear(hidden, *self._layers[-1]).sigmoid_()


def parameter(trained: Trained, name: str, temperature: float, otherwise: float | None = None) -> float:
    """A number that was tuned per temperature, `<name>.<temperature>`: the one of the nearest temperature.

    Where there is none, `otherwise`, for numbers that older packages do not have; StopError if that is None.
    """
    known = {
        float(key.removeprefix(f"{name}.")): value
        for key, value in trained.config["parameters"].items()
        if key.startswith(f"{name}.")
    }
    if not known and otherwise is not None:
        return otherwise
    if not known:
        raise StopError(
            f"stop/config.json: expected parameters {name}.<temperature>, got none: train it again (make train-disco)"
        )
    return float(known[min(known, key=lambda tuned: (abs(tuned - temperature), tuned))])
