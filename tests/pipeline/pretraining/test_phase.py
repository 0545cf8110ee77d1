"""A training phase: it learns, it goes on where it was stopped, a finished one is not repeated."""

import math
import time

import numpy as np
import pytest
import torch

from pipeline.fit.schedule import Schedule, budget_seconds
from pipeline.pretraining import module
from pipeline.pretraining.models import Shape, build
from pipeline.pretraining.module import distillation_loss
from pipeline.pretraining.phase import train

SHAPE = Shape(1, 16, 2, 1, 24)
IDS = np.tile(np.arange(8, dtype=np.uint16), 400)  # the next token follows from the last one


def fresh(seed=0):
    torch.manual_seed(seed)
    return build(SHAPE, 8, 32, 0)


def run(folder, steps, model=None, **options):
    model = model or fresh()
    report = train(model, IDS, Schedule(steps=steps, minutes=5.0), folder, length=16, batch=4, seed=0, **options)
    return model, report


def loss(model):
    tokens = torch.arange(8).repeat(3).unsqueeze(0)
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(model(tokens[:, :-1]).logits[0], tokens[0, 1:]))


def test_it_learns_and_a_finished_phase_is_read_back(tmp_path):
    model, report = run(tmp_path, 30)
    assert loss(model) < 0.5 * math.log(8)
    assert report["updates"] == 30
    assert report["tokens"] == 30 * 4 * 16
    again, same = run(tmp_path, 30, fresh(seed=5))
    assert same == report
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_phase_without_a_budget_leaves_the_model_as_it_is(tmp_path):
    model, before = fresh(), fresh()
    report = train(model, IDS, Schedule(minutes=0), tmp_path, length=16, batch=4, seed=0)
    assert report["updates"] == 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_distillation_moves_towards_the_teacher(tmp_path):
    teacher, _ = run(tmp_path / "teacher", 30)
    student, _ = run(tmp_path / "student", 30, fresh(seed=3), teacher=teacher)
    assert loss(student) < 0.6 * math.log(8)


def test_the_distillation_loss_is_kl_then_total_variation():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.log(torch.tensor([[0.75, 0.25]]))
    kl, tv = distillation_loss(student, teacher, 0.0)
    assert float(kl) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-6)
    assert float(tv) == pytest.approx(0.25, abs=1e-6)
    assert float(distillation_loss(student, teacher, 1.0)[0]) == pytest.approx(0.25, abs=1e-6)


class Clocks:
    """Both clocks of a machine that gives this process a tenth of its time."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", self.wall)
        monkeypatch.setattr(time, "process_time", lambda: self.now / 10)

    def wall(self):
        self.now += 1.0
        return self.now


def busy(monkeypatch, folder, count):
    """Updates within a budget of 3 s while every step takes 5 s by the wall and 0.5 s of the processor."""
    clocks, forward = Clocks(monkeypatch), module.logits_of

    def step(*arguments):
        clocks.now += 5.0
        return forward(*arguments)

    monkeypatch.setattr(module, "logits_of", step)
    monkeypatch.setattr(module, "budget_seconds", count(clocks))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    return train(fresh(), IDS, Schedule(steps=50, minutes=3 / 60), folder, length=16, batch=4, seed=0)["updates"]


def test_a_busy_machine_does_not_use_up_the_budget(tmp_path, monkeypatch):
    assert busy(monkeypatch, tmp_path, lambda clocks: budget_seconds) == 6


def test_the_walls_clock_would_have_used_it_up(tmp_path, monkeypatch):
    assert busy(monkeypatch, tmp_path, lambda clocks: lambda device: clocks.wall()) == 1


def test_the_budgets_clock_stands_still_while_the_processor_waits(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    cpu, begin = torch.device("cpu"), time.process_time()
    before = budget_seconds(cpu)
    time.sleep(0.2)
    assert budget_seconds(cpu) - before < 0.1
    sum(range(2_000_000))
    assert budget_seconds(cpu) - before <= (time.process_time() - begin) / 2
    assert budget_seconds(torch.device("meta")) == pytest.approx(time.monotonic(), abs=0.1)
