"""Training a cut: it learns, the best is kept, a kill at any step ends with the same weights."""

import copy
import dataclasses
import itertools

import pytest
import torch

from pipeline.cut import module, teacher, training
from pipeline.cut.columns import Head
from pipeline.cut.layers import cut
from pipeline.cut.module import Batches, Distillation
from pipeline.cut.training import Plan, measured, train, trained_parameters
from pipeline.fit.schedule import Schedule

KEPT = torch.arange(0, 50, 2)
SCHEDULE = Schedule(steps=30, minutes=60.0, matrix_lr=0.02, table_lr=0.01, decay=0.4, tv_from=0.5)
PLAN = Plan(SCHEDULE, "muon", 200, 8, every=10, patience=9, seed=0, temperature=1.0)


def parts(cache):
    found = {"fit": [], "calibrate": [], "test": []}
    for number, document in enumerate(cache.documents):
        found[document.part].append(number)
    return found


def damaged(target):
    """The first two layers with noise on all that is trained, which training has to find and take away."""
    student, random = cut(target, [0, 1]), torch.Generator().manual_seed(4)
    for part in trained_parameters(student).values():
        part.mul_(1 + 0.5 * torch.randn(part.shape, generator=random))
    return student


def trained(target, cache, folder, plan=PLAN):
    student = damaged(target)
    return student, *train(student, KEPT, cache, parts(cache), plan, folder)


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def whole(target, cache, tmp_path_factory):
    return trained(target, cache, tmp_path_factory.mktemp("whole"))


def test_it_learns_what_unseen_prompts_are_answered(target, cache, whole):
    student, best, _ = whole
    head, unseen = Head.of(target, 1.0), parts(cache)["test"]
    tokens, before, _ = measured(damaged(target), head, cache, unseen).sum(0).tolist()
    _, after, _ = measured(student, head, cache, unseen).sum(0).tolist()
    assert after / tokens > before / tokens + 0.05
    assert [row["step"] for row in best.history] == [0, 10, 20, 30]
    assert best.history[-1]["tokens"] == whole[2].tokens > best.history[1]["tokens"] > 0
    assert all(0 <= row["agreement"] <= 1 and row["minutes"] >= 0 for row in best.history)


def test_embedding_and_head_stay_the_targets(target, whole):
    student = whole[0]
    changed = {
        name for name, part in student.named_parameters() if not torch.equal(part, damaged(target).get_parameter(name))
    }
    assert changed == {name for name, _ in student.named_parameters() if "embed" not in name and "lm_head" not in name}


def test_what_is_measured_is_the_acceptance_of_the_two_models(target, cache, whole):
    """From the models themselves, on the answer's tokens; what differs is the cache's rounding."""
    number = parts(cache)["test"][0]
    document = cache.documents[number]
    with torch.inference_mode():
        p, q = (model(document.ids[None]).logits[0, document.answer].softmax(-1) for model in (target, whole[0]))
    tokens, accepted, _ = measured(whole[0], Head.of(target, 1.0), cache, [number])[0].tolist()
    assert tokens == len(document.ids) - document.prompt
    assert accepted == pytest.approx(float(torch.minimum(p, q).sum()), abs=0.02 * tokens)


@pytest.mark.parametrize("kills", [[3], [12, 19], [29]], ids=str)
def test_a_killed_training_goes_on_to_the_same_weights(target, cache, whole, tmp_path, monkeypatch, kills):
    monkeypatch.setattr(training, "SAVE_EVERY", 4)
    clean = Distillation.training_step
    for last in kills:

        def killed(self, batch, index, last=last):
            if self.updates == last:
                raise KeyboardInterrupt
            return clean(self, batch, index)

        monkeypatch.setattr(Distillation, "training_step", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            trained(target, cache, tmp_path)
    monkeypatch.setattr(Distillation, "training_step", clean)
    student, best, done = trained(target, cache, tmp_path)
    assert same(student, whole[0])
    assert (done.updates, done.tokens) == (whole[2].updates, whole[2].tokens)
    figures = [{**row, "minutes": 0} for row in best.history]
    assert figures == [{**row, "minutes": 0} for row in whole[1].history]


def test_a_training_killed_after_its_last_step_is_not_repeated(target, cache, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 10)
    trained(target, cache, tmp_path)
    monkeypatch.setattr(Distillation, "training_step", lambda *given: pytest.fail("the budget is spent"))
    assert same(trained(target, cache, tmp_path)[0], whole[0])


def test_a_planted_bug_batches_from_the_beginning_is_caught(target, cache, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 4)
    clean, begin = Distillation.training_step, Batches.__init__
    monkeypatch.setattr(Batches, "__init__", lambda self, *given: begin(self, *given[:-1], 0))

    def killed(self, batch, index):
        if self.updates == 12:
            raise KeyboardInterrupt
        return clean(self, batch, index)

    monkeypatch.setattr(Distillation, "training_step", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trained(target, cache, tmp_path)
    monkeypatch.setattr(Distillation, "training_step", clean)
    assert not same(trained(target, cache, tmp_path)[0], whole[0])


def test_adam_alone_learns_as_well(target, cache, whole, tmp_path):
    schedule = dataclasses.replace(SCHEDULE, table_lr=0.003)
    _, best, _ = trained(target, cache, tmp_path, dataclasses.replace(PLAN, optimizer="adam", schedule=schedule))
    assert best.best["acceptance"] > best.history[0]["acceptance"] + 0.05


def test_a_budget_of_time_ends_the_training(target, cache, tmp_path, monkeypatch):
    seconds = itertools.count(0.0, 2.0)
    monkeypatch.setattr(module, "budget_seconds", lambda device: next(seconds))
    schedule = dataclasses.replace(SCHEDULE, minutes=0.2)
    _, best, done = trained(target, cache, tmp_path, dataclasses.replace(PLAN, schedule=schedule))
    assert done.updates == 6
    assert best.history[-1]["step"] == 6  # the end is measured wherever it comes


def test_every_epoch_has_every_document_once_in_another_order(cache):
    chosen = parts(cache)["fit"]
    batches = Batches(cache, chosen, 200, seed=1)
    count = len(batches._epoch(0))
    numbers = list(itertools.islice(batches.numbers(), 2 * count + 5))
    first = [n for batch in numbers[:count] for n in batch]
    assert sorted(first) == chosen
    assert first != [n for batch in numbers[count : 2 * count] for n in batch][: len(first)]
    for begin in (0, 3, count, count + 2):
        assert next(Batches(cache, chosen, 200, 1, begin).numbers()) == numbers[begin]


@pytest.mark.gpu
def test_it_learns_on_a_gpu(target, grouped, tmp_path):
    there = copy.deepcopy(target).to("cuda", torch.bfloat16)
    paths = [teacher.shard_path(tmp_path, "gpu", group) for group in grouped]
    teacher.fill(paths, grouped, lambda: there, 1.0)
    read, student = teacher.Cache(paths, grouped), damaged(target).cuda()
    best, _ = train(student, KEPT, read, parts(read), PLAN, tmp_path / "training")
    assert best.best["acceptance"] > best.history[0]["acceptance"] + 0.05
