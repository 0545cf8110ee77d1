"""The packaged drafter gives again what the stages measured; a prior or a figure that is another one's is told."""

import json
import types

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from drafters.affinity.prior import AffinityPrior
from drafters.probs import Sampling
from drafters.vocab.alignment import identity, restrict
from eval.run.configurations import Drafter
from eval.run.records import PACKAGE, UNPRUNED
from pipeline.evaluate.held_out import figures, sentences
from pipeline.fit.text_and_models import keep_test

VOCABULARY, KEPT = 24, torch.tensor([0, 2, 3, 5, 8, 13, 21])
SERVED = Sampling(1.0)


def llama(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.4, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval().requires_grad_(False)


def short(model):
    small = llama(1)
    small.load_state_dict(model.state_dict())
    head = torch.nn.Linear(16, len(KEPT), bias=False, dtype=torch.float64)
    head.weight = torch.nn.Parameter(model.get_output_embeddings().weight[KEPT], requires_grad=False)
    small.set_output_embeddings(head)
    return small


TARGET, WHOLE = llama(0), llama(1)
SHORT = short(WHOLE)


def prior(to):
    index = torch.tensor([[to]] * len(KEPT), dtype=torch.int32)
    return AffinityPrior(index, torch.ones(len(KEPT), 1), torch.full((len(KEPT),), 0.3))


def bench(affinity):
    def drafter(name, model, vocab, **more):
        return Drafter(name, types.SimpleNamespace(drafter=model), vocab, more)

    unpruned = drafter(UNPRUNED, WHOLE, identity(VOCABULARY))
    package = drafter(PACKAGE, SHORT, restrict(identity(VOCABULARY), KEPT), affinity=affinity)
    return types.SimpleNamespace(models=types.SimpleNamespace(target=TARGET), drafters=[unpruned, package])


@pytest.fixture(scope="module")
def windows():
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(VOCABULARY, (size,), generator=generator) for size in (17, 9, 30)]


def by_hand(windows, lift):
    """Mean of sum min(p, q) over all positions, from the models' logits alone."""
    total = 0.0
    for ids in windows:
        p = TARGET(input_ids=ids[None]).logits[0].softmax(-1)
        whole, kept = (model(input_ids=ids[None]).logits[0].softmax(-1) for model in (WHOLE, SHORT))
        total += float(torch.minimum(p, lift(whole, kept)).sum())
    return total / sum(map(len, windows))


def spread(kept, to=None):
    q = torch.zeros(len(kept), VOCABULARY, dtype=torch.float64)
    q[:, KEPT] = kept if to is None else 0.7 * kept
    if to is not None:
        q[:, to] += 0.3
    return q


@pytest.fixture
def inputs(windows, tmp_path):
    tli = by_hand(windows, lambda whole, kept: spread(kept))
    said = {"acceptance_tli": tli, "acceptance_rdk": by_hand(windows, lambda whole, kept: spread(kept, 7))}
    full = by_hand(windows, lambda whole, kept: whole)
    tail = {"tail": None, "acceptance": {"full": {"mean": full}, "tli": {"mean": tli}, "tail_free": {"mean": 0.9}}}
    folders = {"affinity": tmp_path / "affinity", "tail": tmp_path / "tail"}
    for folder, name, report in zip(folders.values(), ("report.json", "tail.json"), (said, tail), strict=True):
        folder.mkdir()
        keep_test(folder, types.SimpleNamespace(texts={"test": [(0, ids) for ids in windows]}))
        (folder / name).write_text(json.dumps(report))
    return folders


def test_the_package_gives_the_stages_figures_again(inputs):
    found = figures(SERVED, bench(prior(7)), inputs)
    assert [(item.stage, item.law) for item in found] == [
        ("affinity", "tli"), ("affinity", "rdk"), ("tail", "unpruned"), ("tail", "tli"),
    ]  # fmt: skip
    for item in found:
        assert item.found == pytest.approx(item.stated, abs=1e-6)  # the prior is stored in fp32
    agreed, off = sentences(found)
    assert off == []
    assert agreed[0].startswith("held-out text of the stages, acceptance as they measured it: tli 0.")


def test_another_prior_than_the_one_that_was_measured_is_told(inputs):
    _, off = sentences(figures(SERVED, bench(prior(9)), inputs))
    assert len(off) == 1
    assert "stage affinity measured" in off[0]
    assert "for rdk" in off[0]


def test_a_figure_that_is_off_in_the_third_digit_is_told(inputs):
    path = inputs["tail"] / "tail.json"
    report = json.loads(path.read_text())
    report["acceptance"]["full"]["mean"] += 0.001
    path.write_text(json.dumps(report))
    _, off = sentences(figures(SERVED, bench(prior(7)), inputs))
    assert [text.startswith("stage tail measured") for text in off] == [True]


def test_stages_that_measured_nothing_say_nothing(tmp_path):
    (tmp_path / "affinity").mkdir()
    assert figures(SERVED, bench(None), {"affinity": tmp_path / "affinity"}) == []
    assert sentences([]) == ([], [])
