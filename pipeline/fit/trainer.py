"""Trains a part of a drafter towards the target's distributions, all else frozen: a tail, or head rows and norms."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedModel

from pipeline.runner.stage import Advance, unseen


@dataclass(frozen=True)
class Plan:
    """Budget and step size. Steps and not minutes: the same settings on the same machine and threads give the same bytes."""

    steps: int
    batch: int  # windows
    rate: float
    tv_from: float  # share of the steps after which the loss goes over from KL to total variation
    seed: int
    temperature: float  # of both distributions


class Batches(IterableDataset):
    """Windows of equal length (batch, n), every one once an epoch in an order of its own, from step `first` on."""

    def __init__(self, windows: list[Tensor], plan: Plan, first: int):
        length = max(len(window) for window in windows)
        self.windows = [window for window in windows if len(window) == length]
        self.plan, self.first = plan, first

    def __iter__(self) -> Iterator[Tensor]:
        per_epoch = -(-len(self.windows) // self.plan.batch)
        for step in range(self.first, self.plan.steps):
            epoch, place = divmod(step, per_epoch)
            generator = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + epoch)
            order = torch.randperm(len(self.windows), generator=generator).tolist()
            chosen = order[place * self.plan.batch :][: self.plan.batch]
            yield torch.stack([self.windows[number] for number in chosen])


def loss_of(student: Tensor, teacher: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """(1 - weight) KL(p || q) + weight TV(p, q), and the mean acceptance 1 - TV, from logits (..., V) with -inf allowed in q.

    Acceptance is what counts (Leviathan et al. 2023, corollary 3.6); KL comes first, as the gradient of TV vanishes
    where the distributions do not overlap.
    """
    width = min(student.shape[-1], teacher.shape[-1])
    p = teacher[..., :width].softmax(-1)
    log_q = student[..., :width].log_softmax(-1)
    tv = (p - log_q.exp()).abs().sum(-1).mean() / 2
    if weight >= 1.0:
        return tv, 1 - tv.detach()
    known = log_q.masked_fill(log_q.isneginf(), 0.0)  # what has no row cannot be learnt
    kl = (torch.xlogy(p, p) - p * known).sum(-1).mean()
    return (1 - weight) * kl + weight * tv, 1 - tv.detach()


class Fitting(L.LightningModule):
    """Trains the parameters `trained` of `student`; both models stay out of checkpoints."""

    def __init__(
        self,
        student: PreTrainedModel,
        trained: dict[str, torch.nn.Parameter],
        teacher: PreTrainedModel,
        plan: Plan,
        kept: Tensor | None = None,
    ):
        super().__init__()
        self.kept = kept  # int64 (D,): ids of the student's columns; None: all
        self.trained = torch.nn.ParameterDict(trained)
        self.__dict__["student"], self.__dict__["teacher"], self.plan = student, teacher, plan

    def configure_optimizers(self) -> Any:
        """Adam, the rate falling linearly to zero."""
        optimizer = torch.optim.Adam(self.trained.values(), lr=self.plan.rate)
        steps = self.plan.steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """One batch of windows (b, n)."""
        ids = batch.to(self.teacher.device)
        with torch.no_grad():
            teacher = self.teacher(input_ids=ids, use_cache=False).logits.float()
        student = self.student(input_ids=ids, use_cache=False).logits.float()
        done, start = self.global_step / self.plan.steps, self.plan.tv_from
        weight = min(1.0, max(0.0, (done - start) / max(1e-9, (1 - start) / 2)))
        heat = self.plan.temperature or 1.0
        if self.kept is not None:  # the distribution of a short head: what it has no column for it cannot draft
            wide = torch.full_like(teacher, -torch.inf)
            student = wide.index_copy(-1, self.kept.to(wide.device), student)
        loss, accepted = loss_of(student / heat, teacher / heat, weight)
        self.log_dict({"loss": loss.detach(), "acceptance": accepted})
        return loss


def train(
    student: PreTrainedModel,
    trained: dict[str, torch.nn.Parameter],
    teacher: PreTrainedModel,
    windows: list[Tensor],
    plan: Plan,
    folder: Path,
    advance: Advance = unseen,
    callbacks: Sequence[L.Callback] = (),
    kept: Tensor | None = None,
) -> None:
    """Train in place; `folder` keeps what a killed run needs to go on, and the end result is the same bytes.

    That is: on the same kind of processor with as many threads. Others round otherwise, and training carries that on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for parameter in trained.values():
        parameter.requires_grad_(True)
    module = Fitting(student, trained, teacher, plan, kept)
    last = folder / "last.ckpt"
    saved: Mapping[str, Any] = torch.load(last, weights_only=True, map_location="cpu") if last.exists() else {}
    first = int(saved.get("global_step", 0))
    loader = DataLoader(Batches(windows, plan, first), batch_size=None)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for known in (".*does not have many workers.*", ".*exists and is not empty.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=known)
    torch.manual_seed(plan.seed)
    advance(first, kept=True)
    if first < plan.steps:
        trainer = _trainer(folder, plan, [_Steps(advance), *callbacks], student.device.type)
        trainer.fit(module, loader, ckpt_path=str(last) if first else None, weights_only=True)
    else:
        module.load_state_dict(saved["state_dict"])
        for callback in callbacks:
            callback.load_state_dict(saved["callbacks"][callback.state_key])
    for parameter in trained.values():
        parameter.requires_grad_(False)


class _Steps(L.Callback):
    def __init__(self, advance: Advance):
        self.advance = advance

    def on_train_batch_end(self, *arguments: Any, **more: Any) -> None:
        """Move the progress on by one step."""
        self.advance(1)


def _trainer(folder: Path, plan: Plan, callbacks: list[L.Callback], device: str) -> L.Trainer:
    keep = ModelCheckpoint(
        dirpath=folder,
        filename="last",
        every_n_train_steps=min(50, plan.steps),
        save_top_k=1,
        enable_version_counter=False,
    )
    return L.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_steps=plan.steps,
        logger=CSVLogger(folder, name="log", version=""),
        callbacks=[*callbacks, keep],
        gradient_clip_val=1.0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
    )


def healed_parameters(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """What of a pruned drafter is trained to heal it: the head's kept rows and bias, and the weights of every norm."""
    head = model.get_output_embeddings()
    found: dict[str, torch.nn.Parameter] = {
        f"head_{name}".replace(".", "_"): part for name, part in head.named_parameters()
    }
    for name, module in model.named_modules():
        if "norm" in type(module).__name__.lower() or "norm" in name.rpartition(".")[2].lower():
            for part, weight in module.named_parameters(recurse=False):
                found[f"{name}_{part}".replace(".", "_")] = weight
    return found
