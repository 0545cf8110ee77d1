"""Compiled code called without Dynamo: the model's weights of today, the cache it is given, and nothing else."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.compiled import compiled_forward
from drafters.engine.compiled.without_dynamo import Direct, Recorder, Weights
from drafters.rounding import excess
from tests.drafters.engine.conftest import make
from tests.rounding import largest_bound
from tests.tiers import slow_but

FLAT = {"num_hidden_layers": 1}  # Dynamo takes longer for two
PROMPT, TOKEN = torch.arange(5, 17).unsqueeze(0), torch.tensor([[20]])


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(compiled_forward, "HOT", 0)
    monkeypatch.setattr(compiled_forward, "RARE", 10**9)


def step(model, compile: bool, prompt=PROMPT, token=TOKEN):
    """Logits of a token behind a prompt, in a cache of its own."""
    cached = TransformersModel(model, 1, 32, compile)
    cached.extend(prompt)
    return cached.extend(token)


def counted(monkeypatch):
    """How often Dynamo is gone through."""
    calls, traced = [], compiled_forward.Steps._traced
    monkeypatch.setattr(compiled_forward.Steps, "_traced", lambda *given: calls.append(1) or traced(*given))
    return calls


def test_dynamo_is_asked_once_and_other_requests_are_read_from_their_own_cache(graphs, monkeypatch):
    model, through = make("llama", **FLAT), counted(monkeypatch)
    for start in (5, 11, 3):
        prompt, token = torch.arange(start, start + 9).unsqueeze(0), torch.tensor([[start + 20]])
        expected = step(model, False, prompt, token)
        assert excess(step(model, True, prompt, token), expected, largest_bound(model)) <= 1
    assert len(through) == 1
    assert graphs == [1, 1, 1]


def scaled(module: nn.Linear) -> nn.Linear:
    other = nn.Linear(module.in_features, module.out_features, bias=False)
    other.weight.data = module.weight.data * 2
    return other


CHANGES = {
    "weights written in place": lambda m: m.lm_head.weight.data.mul_(2),
    "other memory": lambda m: setattr(m.lm_head.weight, "data", m.lm_head.weight.data * 2),
    "another parameter": lambda m: setattr(m.lm_head, "weight", nn.Parameter(m.lm_head.weight.data * 2)),
    "another module": lambda m: setattr(m, "lm_head", scaled(m.lm_head)),
    "deep inside": lambda m: setattr(m.model.layers[0].mlp, "up_proj", scaled(m.model.layers[0].mlp.up_proj)),
    "another precision": lambda m: m.double(),
    "a pruned head": lambda m: setattr(m.lm_head.weight, "data", m.lm_head.weight.data[:30]),
}


@pytest.mark.parametrize(
    "change", slow_but("another module", CHANGES, "Dynamo: each change has a model of its own, 1 s")
)
def test_a_changed_model_is_followed(change, graphs, monkeypatch):
    model = make("llama", tie_word_embeddings=False, **FLAT)
    before = step(model, True)
    step(model, True)
    through = counted(monkeypatch)
    CHANGES[change](model)
    expected = step(model, False)
    assert expected.shape != before.shape or not torch.equal(expected, before)
    assert excess(step(model, True), expected, largest_bound(model)) <= 1
    assert excess(step(model, True), expected, largest_bound(model)) <= 1
    assert len(through) == (change != "weights written in place")  # Dynamo looks at what was changed


def test_a_removed_parameter_is_a_change():
    layer = nn.Linear(3, 3)
    weights = Weights(layer)
    assert weights.unchanged()
    del layer.bias
    assert not weights.unchanged()


def test_nothing_of_a_request_stays(graphs):
    model = make("llama", **FLAT)
    cached = TransformersModel(model, 1, 32, True)
    cached.extend(PROMPT)
    cached.extend(TOKEN)
    keys = weakref.ref(cached.cache.layers[0].keys)
    assert cached.steps is not None
    assert all(cached.steps._direct.values())
    del cached
    gc.collect()
    assert keys() is None


@pytest.mark.slow("Dynamo: two or three pieces of code, 3 s")
def test_a_model_that_breaks_into_graphs_goes_through_dynamo_every_time(graphs, monkeypatch):
    model, through = make("llama", **FLAT), counted(monkeypatch)
    kind = type(model.model.norm)
    forward = kind.forward

    def broken(norm, hidden):
        torch._dynamo.graph_break()
        return forward(norm, hidden)

    monkeypatch.setattr(kind, "forward", broken)
    for _ in range(2):
        assert excess(step(model, True), step(model, False), largest_bound(model)) <= 1
    assert len(through) == 2
    assert list(compiled_forward.steps_of(model)._direct.values()) == [None]


def test_code_that_reads_a_stranger_or_gives_something_else_is_not_repeated():
    model, given = nn.Linear(2, 2), [torch.ones(2), torch.zeros(2)]
    weights, result = Weights(model), [torch.ones(1)]

    def of(inputs, outputs, calls=1):
        recorder = Recorder(None)
        recorder.calls = [(lambda *read: [sum(item.sum() for item in read)], tuple(inputs), outputs)] * calls
        return Direct.of(recorder, given, result, weights)

    direct = of([model.weight, given[1], model.bias], result)
    assert direct is not None
    tensors = [torch.zeros(2), torch.tensor([40.0, 2.0])]
    assert direct(tensors)[0].item() == pytest.approx((model.weight.sum() + model.bias.sum()).item() + 42, abs=1e-5)
    assert of([model.weight, torch.ones(2)], result) is None
    assert of([model.weight, 3], result) is None
    assert of([model.weight], [torch.ones(1)]) is None
    assert of([model.weight], result * 2) is None
    assert of([model.weight], result, calls=2) is None


def doubling(module, given, result):
    return result * 2


def doubling_linear(module, given, result):
    return result * 2 if isinstance(module, nn.Linear) else None


class Doubled(nn.Module):
    """A `forward` put in the place of a module's own, as wrappers do."""

    def __init__(self, forward):
        super().__init__()
        self.own = forward

    def __call__(self, *given):
        return self.own(*given) * 2


AROUND = {
    "a hook": lambda m: m.lm_head.register_forward_hook(doubling),
    "a hook deep inside": lambda m: m.model.layers[0].mlp.register_forward_hook(doubling),
    "a hook on what is given": lambda m: m.model.norm.register_forward_pre_hook(lambda _, given: (given[0] + 1,)),
    "a hook on all modules there are": lambda m: register_module_forward_hook(doubling_linear),
    "another forward": lambda m: setattr(m.lm_head, "forward", Doubled(m.lm_head.forward).__call__),
}


@pytest.mark.parametrize("around", slow_but("a hook", AROUND, "Dynamo: each hook has a model of its own, 1 s"))
def test_what_is_put_around_a_module_is_followed_and_so_is_its_removal(around, graphs, monkeypatch, caplog):
    model = make("llama", tie_word_embeddings=False, **FLAT)
    before = step(model, True)
    step(model, True)
    through = counted(monkeypatch)
    handle = AROUND[around](model)
    expected = step(model, False)
    assert excess(expected, before, largest_bound(model)) > 1
    for _ in range(2):
        assert excess(step(model, True), expected, largest_bound(model)) <= 1
    if handle is None:
        del model.lm_head.forward
    else:
        handle.remove()
    assert excess(step(model, True), before, largest_bound(model)) <= 1
    assert not through  # what was compiled is used again
    assert [record.levelname for record in caplog.records if "hooks" in record.message] == ["WARNING"]


@pytest.mark.floats
@pytest.mark.slow("Dynamo: two or three pieces of code, 3 s")
def test_another_attention_and_autocast_are_followed(graphs, monkeypatch):
    model = make("llama", **FLAT)
    before = step(model, True)
    through = counted(monkeypatch)
    with torch.autocast("cpu", torch.bfloat16):
        half = step(model, True)
    assert excess(half, before, largest_bound(model)) > 1
    assert excess(step(model, True), before, largest_bound(model)) <= 1
    assert len(through) == 1
    model.set_attn_implementation("eager")
    assert excess(step(model, True), before, largest_bound(model)) <= 1
    assert len(through) == 2
