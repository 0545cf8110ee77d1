"""Keeps the best weights of a training and ends it where nothing gets better, both by measured acceptance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import load_file, save
from torch import nn

from drafters.io.atomic import write_atomic


class Best(L.Callback):
    """Early stopping by what counts, measured acceptance; the best weights are kept on disk, so that a killed run loses none.

    Measures before the first step and every `every` steps; ends the training after `patience` measurements without a better one.
    """

    def __init__(
        self,
        measure: Callable[[], Mapping[str, float]],  # "acceptance", and what else belongs into the history
        trained: Mapping[str, nn.Parameter],
        folder: Path,
        every: int,
        patience: int,
    ):
        self.measure, self.trained, self.every, self.patience = measure, trained, every, patience
        self.path = folder / "best.safetensors"
        self.history: list[dict[str, float]] = []  # "step" and what `measure` returned

    @property
    def best(self) -> dict[str, float]:
        """The first measurement of the highest acceptance."""
        return max(self.history, key=lambda row: row["acceptance"])

    @property
    def step(self) -> int:
        """Steps behind the best weights."""
        return int(self.best["step"])

    @property
    def improved(self) -> bool:
        """Whether any training was better than none."""
        return self.step > 0

    @property
    def over(self) -> bool:
        """Whether the last `patience` measurements were no better than one before."""
        return len(self.history) - 1 - self.history.index(self.best) >= self.patience

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """The untrained drafter is the first candidate; a resumed run knows its own."""
        if not self.history:
            self.look(0)
        trainer.should_stop = self.over

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any, **more: Any) -> None:
        """Measure when it is time."""
        step = trainer.global_step
        if step % self.every == 0 and step > self.history[-1]["step"]:
            self.look(step)
            trainer.should_stop = trainer.should_stop or self.over

    def state_dict(self) -> dict[str, list[dict[str, float]]]:
        """What Lightning's checkpoint keeps of the callback: the measurements so far."""
        return {"history": self.history}

    def load_state_dict(self, state: dict[str, list[dict[str, float]]]) -> None:
        """Restore the measurements from Lightning's checkpoint."""
        self.history = [dict(row) for row in state["history"]]

    def look(self, step: int) -> None:
        """Measure the drafter after ``step`` steps, unless that was done."""
        if self.history and step <= self.history[-1]["step"]:
            return
        found = dict(self.measure())
        if not self.history or found["acceptance"] > self.best["acceptance"]:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            tensors = {name: part.detach().cpu().contiguous() for name, part in self.trained.items()}
            write_atomic(self.path, save(tensors))
        self.history.append({"step": float(step), **found})

    def restore(self) -> None:
        """Give the drafter its best weights back."""
        weights = load_file(self.path)
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(weights[name])
