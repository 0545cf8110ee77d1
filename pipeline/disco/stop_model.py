"""The trained network as a package holds it: its scores made probabilities, and how well those fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error, binary_roc

from drafters.io.atomic import write_atomic
from drafters.io.json_rules import check_stop_config
from drafters.package.components import STOP_CONFIG, STOP_WEIGHTS, StopModel
from drafters.stop.classifier import Classifier
from drafters.stop.features import NAMES
from pipeline.disco.traces.trace_rows import Rows
from pipeline.disco.train import OUTPUTS, DiscoModule

BINS = 15
ROC_POINTS = 64


class Curves(TypedDict):
    """A classifier as reports draw it."""

    auc: float
    roc: list[dict[str, float]]  # false_positive, true_positive
    bins: list[dict[str, float]]  # predicted, observed, count


class Quality(Curves):
    """How well one output's probabilities fit what happened at one temperature."""

    temperature: float
    output: str
    drafts: int
    ece: float


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


def platt(logits: Tensor, label: Tensor) -> tuple[float, float]:
    """Slope and shift that make sigmoid(slope * logit + shift) fit best (Platt 1999): (N,), (N,) -> two numbers.

    Labels may be probabilities. The slope stays positive: calibration must not turn the order round. Without any row the scores
    stay as they are.
    """
    if not len(logits):
        return 1.0, 0.0
    logits, label = logits.double(), label.double()
    raw = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log slope, shift
    optimiser = torch.optim.LBFGS([raw], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(raw[0].exp() * logits + raw[1], label)
        # A perfectly separable split has no finite slope: this keeps it sane and is nothing beside real data.
        loss = loss + 1e-4 * raw.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call, unused-ignore]
    slope, shift = raw.detach().tolist()
    return float(torch.tensor(slope).exp()), float(shift)


def quality(model: StopModel, tests: Mapping[float, Rows]) -> list[Quality]:
    """How well the calibrated network fits rows that it has not seen, by temperature and output."""
    classifier, found = Classifier(model), list[Quality]()
    for temperature, test in tests.items():
        said = classifier(test.features)
        for output, name in enumerate(OUTPUTS):
            known = test.known[:, output]
            if not bool(known.any()):
                continue  # no draft was accepted: nothing to compare the second output with
            probability, happened = said[known, output], test.happened[known, output]
            error = expected_calibration_error(probability, happened)
            head = {"temperature": temperature, "output": name, "drafts": int(known.sum()), "ece": error}
            found.append(cast(Quality, head | curves(probability, happened)))
    return found


def curves(probability: Tensor, happened: Tensor) -> Curves:
    """ROC and reliability, as reports draw them: (N,), int64 (N,); reliability over 15 equal bins."""
    said, label = probability.float(), happened.long()
    false_positive, true_positive, _ = binary_roc(said, label, thresholds=ROC_POINTS)
    points = zip(false_positive.tolist(), true_positive.tolist(), strict=True)
    place = (said * BINS).long().clamp(max=BINS - 1)
    bins = []
    for number in range(BINS):
        inside = place == number
        if count := int(inside.sum()):
            predicted, observed = float(said[inside].mean()), float(label[inside].double().mean())
            bins.append({"predicted": predicted, "observed": observed, "count": count})
    roc = [{"false_positive": x, "true_positive": y} for x, y in points]
    return {"auc": float(binary_auroc(said, label)), "roc": roc, "bins": bins}


def expected_calibration_error(probability: Tensor, happened: Tensor) -> float:
    """Mean gap between what was said and what happened, over 15 equal bins: (N,), int64 (N,) -> 0 to 1."""
    return float(binary_calibration_error(probability.float(), happened, n_bins=BINS, norm="l1"))
