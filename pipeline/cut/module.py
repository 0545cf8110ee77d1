"""The Lightning module that trains a cut's layers and norms towards the teacher's cached answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset
from transformers import PreTrainedModel

from pipeline.cut.columns import Columns
from pipeline.cut.teacher import Answers, Cache, packed
from pipeline.fit.muon import Muon
from pipeline.fit.schedule import Schedule, budget_seconds

OPTIMIZERS = ("muon", "adam")


@dataclass(frozen=True)
class Batch:
    """Documents padded on the right, and the teacher on their positions that have a next token, row after row."""

    ids: Tensor  # int64 (B, n)
    real: Tensor  # bool (B, n) those positions, m in all
    hidden: Tensor  # bf16 (m, H)
    log_total: Tensor  # fp32 (m,)

    @classmethod
    def of(cls, answers: Sequence[Answers]) -> Batch:
        """Pad and join; what follows a document's last token nobody knows, so that it counts for nothing."""
        ids = pad_sequence([one.ids for one in answers], batch_first=True)
        lengths = torch.tensor([len(one.ids) - 1 for one in answers])
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        hidden = torch.cat([one.hidden[:-1] for one in answers])
        return cls(ids, real, hidden, torch.cat([one.log_total[:-1] for one in answers]))

    def to(self, device: torch.device) -> Batch:
        """Return the same on another device."""
        return Batch(*(part.to(device) for part in (self.ids, self.real, self.hidden, self.log_total)))


class Batches(IterableDataset):
    """Batches of documents of like length, every one once an epoch in an order of its own, from step ``first`` on, for ever."""

    def __init__(self, cache: Cache, chosen: Sequence[int], tokens: int, seed: int, first: int = 0):
        self.cache, self.chosen, self.tokens, self.seed, self.first = cache, chosen, tokens, seed, first

    def __iter__(self) -> Iterator[Batch]:
        for numbers in self.numbers():
            yield Batch.of([self.cache[number] for number in numbers])

    def numbers(self) -> Iterator[list[int]]:
        """The documents of every batch."""
        step = epoch = 0
        while True:
            batches = self._epoch(epoch)
            yield from batches[max(0, self.first - step) :]
            step, epoch = step + len(batches), epoch + 1

    def _epoch(self, epoch: int) -> list[list[int]]:
        """Sorted by length with some noise, so that a batch is hardly padded and no two epochs have the same batches."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        lengths = [len(self.cache.documents[number].ids) for number in self.chosen]
        noise = torch.rand(len(lengths), generator=generator)
        order = (torch.tensor(lengths) * (0.9 + 0.2 * noise)).argsort(stable=True).tolist()
        batches = packed(order, lengths, self.tokens)
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [[self.chosen[number] for number in batches[place]] for place in shuffled]


class Distillation(L.LightningModule):
    """Trains the parameters ``trained`` of ``student``, which itself stays out of checkpoints."""

    def __init__(
        self,
        student: PreTrainedModel,
        trained: dict[str, torch.nn.Parameter],
        columns: Columns,
        schedule: Schedule,
        optimizer: str,
        negatives: int,
        seed: int,
    ):
        super().__init__()
        self.trained = torch.nn.ParameterDict({name.replace(".", "_"): part for name, part in trained.items()})
        self.__dict__["student"], self.columns, self.schedule = student, columns, schedule
        self.optimizer, self.negatives, self.seed = optimizer, negatives, seed
        self.automatic_optimization = False
        self.updates, self.spent, self.tokens = 0, 0.0, 0
        self._clock = 0.0

    @property
    def progress(self) -> float:
        """Share of the budget used, in [0, 1]."""
        return self.schedule.progress(self.updates, self.spent)

    def on_fit_start(self) -> None:
        """Start the clock: only time inside fit counts, also after a resume."""
        self._clock = budget_seconds(self.student.device)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon on matrices and Adam on norms, or Adam on all."""
        parts = list(self.trained.values())
        matrices = [part for part in parts if part.ndim == 2] if self.optimizer == "muon" else []
        rest = [part for part in parts if part.ndim != 2 or self.optimizer != "muon"]
        adam = torch.optim.AdamW(rest, lr=self.schedule.table_lr, betas=(0.9, 0.95), weight_decay=0.0)
        return [adam, Muon(matrices, lr=self.schedule.matrix_lr)] if matrices else [adam]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, loader: int) -> Batch:
        """Move a batch to where the student is."""
        return batch.to(self.student.device)

    def training_step(self, batch: Batch, index: int) -> None:
        """One update."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.student.device.type == "cuda"):
            output = self.student.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state
        hidden = output[batch.real]
        weight = self.schedule.tv_weight(self.progress)
        loss, gradient = self.columns.loss(hidden, batch.hidden, batch.log_total, self._sample(), weight)
        hidden.backward(gradient.to(hidden.dtype))
        self._update()
        self.tokens += len(batch.hidden)
        now = budget_seconds(self.student.device)
        self.spent, self._clock = self.spent + now - self._clock, now
        self.log_dict({"loss": loss, "progress": self.progress, "tokens": float(self.tokens)}, batch_size=1)
        if self.progress >= 1.0:
            self.trainer.should_stop = True

    def _update(self) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"step {self.updates}: the gradient is not finite; lower cut.rate and cut.matrix_rate"
            )
        scale = self.schedule.scale(self.progress)
        found: Any = self.optimizers()
        first, *others = found if isinstance(found, list) else [found]
        for wrapped, rate in ((first, self.schedule.table_lr), *((other, self.schedule.matrix_lr) for other in others)):
            for group in wrapped.param_groups:
                group["lr"] = rate * scale
        for other in others:
            other.optimizer.step()  # past Lightning, which would count another step
        first.step()
        for wrapped in (first, *others):
            wrapped.zero_grad(set_to_none=True)
        self.updates += 1

    def _sample(self) -> Tensor:
        """Ids, int64 (m,), of this step's sample of the tokens that are not kept: of seed and step alone."""
        others = self.columns.others
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.updates)
        chosen = torch.randperm(len(others), generator=generator)[: self.negatives]
        return others[chosen.to(others.device)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the budget used so far."""
        checkpoint["budget"] = {"updates": self.updates, "spent": self.spent, "tokens": self.tokens}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the budget used, so that training goes on where it was."""
        budget = checkpoint["budget"]
        self.updates, self.spent, self.tokens = budget["updates"], budget["spent"], budget["tokens"]
