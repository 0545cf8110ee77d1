"""What of a size is trained, each kept in a file: a finished one is read back."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from drafters.io.atomic import write_atomic
from drafters.models.forms import pruned_form, tail_form
from drafters.models.tail import Tail
from pipeline.fit.tail_fit import trained_tail
from pipeline.fit.trainer import Plan, healed_parameters, train
from pipeline.runner.stage import Advance
from pipeline.sweep.size import Size


@dataclass(frozen=True)
class Training:
    """The trainings of every size, towards the same teacher on the same windows."""

    teacher: Any  # a model, or one that remembers what it read
    drafter: PreTrainedModel  # unpruned
    free: str  # which of a size's training-free tails is trained
    tail_plan: Plan
    heal_plan: Plan
    windows: list[Tensor]  # int64 (n,)
    out: Path
    advance: Advance

    def tail(self, size: Size) -> Tail:
        """The tail `free` after training."""
        path = self.out / f"tail-{len(size.kept):06d}.safetensors"
        if path.exists():
            self.advance(self.tail_plan.steps, kept=True)
            return Tail(**load_file(path))
        short = pruned_form(self.drafter, size.kept)
        free, work = size.tails[self.free], self.out / f".{path.stem}"
        tail = trained_tail(short, free, self.teacher, self.windows, self.tail_plan, work, self.advance)
        write_atomic(path, save(vars(tail)))
        return tail

    def healed(self, size: Size, tail: Tail) -> PreTrainedModel:
        """The drafter with its trained tail after a short training of head and norms together."""
        path = self.out / f"healed-{len(size.kept):06d}.safetensors"
        student = tail_form(pruned_form(copy.deepcopy(self.drafter), size.kept), tail)
        trained = healed_parameters(student)
        if path.exists():
            for name, part in load_file(path).items():
                trained[name].data.copy_(part)
            self.advance(self.heal_plan.steps, kept=True)
            return student
        train(student, trained, self.teacher, self.windows, self.heal_plan, self.out / f".{path.stem}", self.advance)
        write_atomic(path, save({name: part.detach().float().cpu().contiguous() for name, part in trained.items()}))
        return student
