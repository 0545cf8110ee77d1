"""The cache: whatever was fed, kept and fed again, logits are those of a forward over the whole prefix from scratch."""

import random
from functools import lru_cache

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.cache.supported_models import UnsupportedModel, check_supported
from drafters.rounding import excess
from tests.drafters.engine.cache.self_test import self_test
from tests.rounding import largest_bound

pytestmark = pytest.mark.floats
V = 61
NAMES = ["llama", "qwen2", "gpt2", "gpt-neox", "mistral-window", "gemma2", "opt", "phi", "gpt-bigcode", "bitnet"]
bound_of = lru_cache(maxsize=None)(largest_bound)  # models of `models` are never changed


def scratch(model, prefix):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([prefix]), use_cache=False).logits[0].float()


def random_tokens(generator, n):
    return [generator.randrange(V) for _ in range(n)]


def close(model, got, expected):
    """The cache's blocks, rows and masks are other shapes than the whole text at once: equal but for rounding."""
    assert excess(got, expected, bound_of(model)) <= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("counts", [None, [3, 3], [3, 1], [1, 3]])
def test_the_last_logits_are_those_of_each_rows_last_token(models, name, counts):
    rows = [[5, 17, 2], [33, 1, 40]]
    padded = [row[:n] + [-1] * (3 - n) for row, n in zip(rows, counts or [3, 3], strict=True)]
    cache = TransformersModel(models(name), rows=2, capacity=8)
    last = cache.extend(torch.tensor(padded), counts=counts, last=True)
    assert last.shape == (2, 1, V)
    for row, n, logits in zip(rows, counts or [3, 3], last, strict=True):
        close(models(name), logits[0], scratch(models(name), row[:n])[-1])


@pytest.mark.parametrize("name", NAMES)
def test_random_chains_of_ragged_rows(models, name):
    """Rows of their own lengths, padded blocks, roll-backs of random depth, beyond a sliding window."""
    model, generator = models(name), random.Random(name)
    cache = TransformersModel(model, rows=3, capacity=40)
    rows = [[], [], []]
    for _ in range(6):
        counts = [generator.randint(1, 4) for _ in rows]
        blocks = [random_tokens(generator, n) for n in counts]
        padded = torch.tensor([block + [-1] * (max(counts) - len(block)) for block in blocks])
        logits = cache.extend(padded, counts=counts)
        rows = [row + block for row, block in zip(rows, blocks, strict=True)]
        assert cache.lengths == [len(row) for row in rows]
        for row in range(3):
            close(model, logits[row, : counts[row]], scratch(model, rows[row])[-counts[row] :])
        kept = [generator.randint(max(1, len(row) - 3), len(row)) for row in rows]
        cache.keep([[length - 1] if length < len(row) else [] for length, row in zip(kept, rows, strict=True)])
        rows = [row[:length] for row, length in zip(rows, kept, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_trees_and_compaction(models, name):
    """Every node's logits are those of its own path; after keeping one path the rows are chains again."""
    model, generator = models(name), random.Random(name)
    cache = TransformersModel(model, rows=2, capacity=40)
    rows = [random_tokens(generator, 7), random_tokens(generator, 3)]
    cache.extend(torch.tensor([row + [-1] * (7 - len(row)) for row in rows]), counts=[7, 3], logits=False)
    for _ in range(2):
        shape = [-1, -1, 0, 0, 1, 3]  # parent node of each of six nodes, -1 = the last token
        nodes = [random_tokens(generator, 6) for _ in rows]
        parents = torch.tensor([[len(row) + node if node >= 0 else len(row) - 1 for node in shape] for row in rows])
        # the first four at once, the others in a second block, as a drafter grows its tree
        first = cache.extend(torch.tensor(nodes)[:, :4], parents[:, :4])
        second = cache.extend(torch.tensor(nodes)[:, 4:], parents[:, 4:])
        logits = torch.cat([first, second], 1)
        for row, tokens in enumerate(nodes):
            for node in range(6):
                path, at = [], node
                while at >= 0:
                    path.insert(0, tokens[at])
                    at = shape[at]
                close(model, logits[row, node], scratch(model, rows[row] + path)[-1])
        chosen = [[0, 3, 5], [1, 4]]  # a path per row, not contiguous in the cache
        cache.keep(
            [[len(row) - 1, *(len(row) + node for node in path)] for row, path in zip(rows, chosen, strict=True)]
        )
        rows = [row + [tokens[n] for n in path] for row, tokens, path in zip(rows, nodes, chosen, strict=True)]
        assert cache.lengths == [len(row) for row in rows]
        more = [random_tokens(generator, 2) for _ in rows]
        logits = cache.extend(torch.tensor(more))
        rows = [row + block for row, block in zip(rows, more, strict=True)]
        for row in range(2):
            close(model, logits[row], scratch(model, rows[row])[-2:])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_fp64_agrees_to_rounding(models, name):
    model = models(name, seed=5).double()
    cache = TransformersModel(model, rows=1, capacity=16)
    cache.extend(torch.tensor([[3, 1, 4, 1, 5]]), logits=False)
    cache.keep([[2]])
    logits = cache.extend(torch.tensor([[9, 2, 6]]))
    assert logits.dtype == torch.float64
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([[3, 1, 4, 9, 2, 6]]), use_cache=False).logits[0, -3:]
    assert excess(logits[0], expected, largest_bound(model)) <= 1


def test_padding_needs_no_room(models):
    """A long row near the end of its context takes part in a block that is longer for another row."""
    model = models("gpt2")  # learned positions: a position beyond the table is an IndexError
    cache = TransformersModel(model, rows=2, capacity=96)
    long = [n % V for n in range(95)]
    cache.extend(torch.tensor([long, [7] + [-1] * 94]), counts=[95, 1], logits=False)
    logits = cache.extend(torch.tensor([[1, -1, -1, -1], [2, 3, 4, 5]]), counts=[1, 4])
    close(model, logits[0, 0], scratch(model, [*long, 1])[-1])
    close(model, logits[1], scratch(model, [7, 2, 3, 4, 5])[-4:])


def test_capacity_is_enforced(models):
    cache = TransformersModel(models("llama"), rows=1, capacity=4)
    with pytest.raises(ValueError, match="at most 4 slots, got 5"):
        cache.extend(torch.zeros(1, 5, dtype=torch.int64))


@pytest.mark.parametrize("name", NAMES)
def test_self_test_passes(models, name):
    self_test(models(name))


def test_self_test_finds_a_model_that_ignores_positions(models, monkeypatch):
    model = models("llama", seed=9)
    clean = model.forward
    # the signature stays that of the class, which is what attributes can tell
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, position_ids=None, logits_to_keep=0, **more: clean(logits_to_keep=logits_to_keep, **more),
    )
    with pytest.raises(UnsupportedModel, match="logits from the cache differ"):
        self_test(model)


@pytest.mark.parametrize(
    ("kind", "arguments", "name"),
    [
        ("MambaConfig", {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}, "mamba"),
        ("BloomConfig", {"hidden_size": 16, "n_layer": 1, "n_head": 2}, "bloom"),
        ("MptConfig", {"d_model": 16, "n_layers": 1, "n_heads": 2}, "mpt"),
    ],
)
def test_models_that_cannot_roll_back_are_refused_by_name(kind, arguments, name):
    model = AutoModelForCausalLM.from_config(getattr(transformers, kind)(vocab_size=V, **arguments))
    with pytest.raises(UnsupportedModel, match=rf"{name}: .*choose an(other| attention-only) model"):
        check_supported(model)
    with pytest.raises(UnsupportedModel, match=name):
        TransformersModel(model, rows=1, capacity=4)


class Wrapper(torch.nn.Module):
    """As adapters do: passes arguments on without naming them, and changes what comes out."""

    def __init__(self, model):
        super().__init__()
        self.module = model

    def forward(self, *args, **kwargs):
        out = self.module(*args, **kwargs)
        out.logits = out.logits.roll(1, -1)
        return out

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def test_of_a_wrapped_model_the_wrapper_runs_and_is_checked(models):
    inner = models("llama")
    wrapped = Wrapper(inner)
    ids = torch.arange(6)[None]
    with torch.no_grad():
        got = TransformersModel(wrapped, rows=1, capacity=8).extend(ids)
        assert torch.allclose(got[0], wrapped(ids).logits[0], atol=1e-5)
        assert not torch.allclose(got[0], inner(ids).logits[0], atol=1e-2)
        self_test(wrapped)
        compiled = TransformersModel(torch.compile(inner, backend="eager"), rows=1, capacity=8).extend(ids)
        assert torch.allclose(compiled[0], inner(ids).logits[0], atol=1e-5)


def test_a_wrapper_hides_no_model_that_cannot_roll_back():
    config = transformers.BloomConfig(vocab_size=V, hidden_size=16, n_layer=1, n_head=2)
    with pytest.raises(UnsupportedModel, match="bloom: "):
        check_supported(Wrapper(AutoModelForCausalLM.from_config(config)))


def test_the_head_reads_rows_that_a_product_folds(models):
    """A slice of the last token keeps the strides of all: torch then multiplies by a copy of the whole head in bf16."""
    model, strides = models("llama"), []
    cache = TransformersModel(model, rows=1, capacity=8)
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, given: strides.append((given[0].stride(), tuple(given[0].shape)))
    )
    try:
        for tokens in ([[5, 17, 2]], [[3, 4]], [[6]]):
            cache.extend(torch.tensor(tokens), last=True)
    finally:
        hook.remove()
    assert len(strides) == 3
    assert all(stride == torch.empty(shape).stride() for stride, shape in strides)
