"""A training phase: it learns, it goes on where it was stopped, a finished one is not repeated."""

import math

import numpy as np
import pytest
import torch

from pipeline.pretraining.models import Shape, build
from pipeline.pretraining.module import Schedule, distillation_loss
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
