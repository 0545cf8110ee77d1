"""Trains a cut from the teacher's cache, within a budget, resumable, the best weights kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from pipeline.cut.columns import Columns, Head, agreement
from pipeline.cut.module import Batches, Distillation
from pipeline.cut.teacher import Cache
from pipeline.fit.best import Best
from pipeline.fit.schedule import Schedule
from pipeline.runner.stage import Advance, unseen

SAVE_EVERY = 25  # steps that a kill costs at most


@dataclass(frozen=True)
class Plan:
    """How a cut is trained."""

    schedule: Schedule
    optimizer: str  # muon | adam
    tokens: int  # of a batch, padding included
    negatives: int  # tokens outside the kept ones that are sampled for every step
    every: int  # steps between two measurements
    patience: int  # measurements without a better one that end the training
    seed: int
    temperature: float  # served; 0 is read as 1


@torch.inference_mode()
def measured(
    student: PreTrainedModel, head: Head, cache: Cache, chosen: Sequence[int], advance: Advance = unseen
) -> Tensor:
    """Tokens, sum of acceptances and equal likeliest tokens of each chosen document, fp64 (documents, 3), on its answer.

    Acceptance is sum_x min(p, q) over the whole vocabulary, at the temperature of the head.
    """
    rows = []
    for number in chosen:
        answers, span = cache[number], cache.documents[number].answer
        ids, device = answers.ids, student.device
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            own = student.base_model(input_ids=ids[None].to(device), use_cache=False).last_hidden_state[0, span]
        teacher, log_total = answers.hidden[span].to(device), answers.log_total[span].to(device)
        rows.append([float(len(own)), *agreement(head, own, teacher, log_total)])
        advance(len(own))
    return torch.tensor(rows, dtype=torch.float64)


def trained_parameters(student: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """Everything but embedding and head, which stay the target's: matrices and norms of the layers, and the final norm."""
    frozen = {
        id(part)
        for module in (student.get_input_embeddings(), student.get_output_embeddings())
        for part in module.parameters()
    }
    return {name: part for name, part in student.named_parameters() if id(part) not in frozen}


def train(
    student: PreTrainedModel,
    kept: Tensor,
    cache: Cache,
    parts: Mapping[str, Sequence[int]],
    plan: Plan,
    folder: Path,
    advance: Advance = unseen,
) -> tuple[Best, Distillation]:
    """Train ``student`` in place up to its best weights; ``folder`` keeps what a killed run needs to go on.

    A budget in steps gives the same weights wherever it was killed, on the same kind of processor with as many threads.

    Args:
        kept: int64 (D,) ids whose rows the drafter is trained on. parts: numbers of the cache's documents to fit and to calibrate.
        advance: is told of thousandths of the budget.
    """
    head, trained = Head.of(student, plan.temperature), trained_parameters(student)
    chunk = 256 if student.device.type == "cpu" else 8192
    columns = Columns.of(head, kept.to(student.device), chunk)
    for part in trained.values():
        part.requires_grad_(True)
    module = Distillation(student, trained, columns, plan.schedule, plan.optimizer, plan.negatives, plan.seed)

    def measure() -> dict[str, float]:
        tokens, accepted, equal = measured(student, head, cache, parts["calibrate"]).sum(0).tolist()
        return {
            "tokens": float(module.tokens),
            "minutes": module.spent / 60,
            "acceptance": accepted / tokens,
            "agreement": equal / tokens,
        }

    best = Best(measure, trained, folder, plan.every, plan.patience)
    _fit(module, best, cache, parts["fit"], plan, folder, advance)
    best.look(module.updates)
    best.restore()
    for part in trained.values():
        part.requires_grad_(False)
    return best, module


def _fit(
    module: Distillation, best: Best, cache: Cache, chosen: Sequence[int], plan: Plan, folder: Path, advance: Advance
) -> None:
    """Run Lightning from where a killed run stopped to the end of the budget."""
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "last.ckpt"
    saved: Mapping[str, Any] = torch.load(last, weights_only=True, map_location="cpu") if last.exists() else {}
    if saved:
        module.on_load_checkpoint(dict(saved))
    if module.progress >= 1.0:
        module.load_state_dict(saved["state_dict"])
        best.load_state_dict(saved["callbacks"][best.state_key])
        return
    batches = Batches(cache, chosen, plan.tokens, plan.seed, module.updates)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for known in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*LeafSpec.*",
        ".*pre-optimization state.*",
    ):
        warnings.filterwarnings("ignore", message=known)
    torch.manual_seed(plan.seed)
    loader = DataLoader(batches, batch_size=None)
    trainer = _trainer(folder, plan, [_Budget(advance), best], module.student.device.type)
    trainer.fit(module, loader, ckpt_path=str(last) if saved else None, weights_only=True)


class _Budget(L.Callback):
    """Advances a bar by thousandths of the budget."""

    def __init__(self, advance: Advance):
        self.advance, self.done = advance, 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Count what a killed run had used."""
        self._move(module, kept=True)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *more: Any) -> None:
        """Count what the batch used."""
        self._move(module, kept=False)

    def _move(self, module: L.LightningModule, kept: bool) -> None:
        now = int(1000 * module.progress)
        self.advance(now - self.done, kept=kept)
        self.done = now


def _trainer(folder: Path, plan: Plan, callbacks: list[L.Callback], device: str) -> L.Trainer:
    keep = ModelCheckpoint(
        dirpath=folder, filename="last", every_n_train_steps=SAVE_EVERY, save_top_k=1, enable_version_counter=False
    )
    return L.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_steps=plan.schedule.steps,
        logger=CSVLogger(folder, name="log", version=""),
        callbacks=[*callbacks, keep],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
    )
