"""Tiny random models of every architecture family the engine must hold, and pairs of them."""

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from drafters.engine.cache.cached_model import TransformersModel
from drafters.engine.compiled.compiled_forward import Steps
from drafters.engine.compiled.without_dynamo import Recorder
from drafters.engine.transformers_pair import TransformersPair
from drafters.models.prune import prune_head
from drafters.vocab.alignment import VocabMap, identity, restrict
from drafters.vocab.feed import FeedTable

V, H = 61, 32
BASE = {
    "vocab_size": V, "hidden_size": H, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 96, "initializer_range": 0.2, "pad_token_id": None,
}  # fmt: skip
GPT = {"vocab_size": V, "n_embd": H, "n_layer": 2, "n_head": 4, "n_positions": 96, "initializer_range": 0.2}
OPT = {
    "vocab_size": V, "hidden_size": H, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 96, "init_std": 0.2, "word_embed_proj_dim": H,
}  # fmt: skip
CONFIGS = {
    "llama": ("LlamaConfig", BASE),
    "qwen2": ("Qwen2Config", BASE),
    "gpt2": ("GPT2Config", GPT),
    "gpt-neox": ("GPTNeoXConfig", BASE),
    "mistral-window": ("MistralConfig", BASE | {"sliding_window": 5}),
    "gemma2": ("Gemma2Config", BASE | {"head_dim": 8, "sliding_window": 5, "attn_implementation": "eager"}),
    "opt": ("OPTConfig", OPT),
    "phi": ("PhiConfig", BASE),
    "gpt-bigcode": ("GPTBigCodeConfig", GPT),
    "bitnet": ("BitNetConfig", BASE),
}


def make(name: str, seed: int = 0, **changes):
    kind, arguments = CONFIGS[name]
    arguments = arguments | changes
    attention = (
        {"attn_implementation": arguments.pop("attn_implementation")} if "attn_implementation" in arguments else {}
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(getattr(transformers, kind)(**arguments), **attention).eval()
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = None
    model.config.eos_token_id = None
    return model


FOREIGN = 40  # ids of the foreign drafter


def foreign_maps() -> tuple[VocabMap, FeedTable]:
    """Target token t < 30 is drafter id 39 - t; t in 30..49 is spelled by two ids; later ones cannot be spelled."""
    to_target = torch.tensor([39 - d if d >= 10 else -1 for d in range(FOREIGN)])
    to_drafter = torch.tensor([39 - t if t < 30 else -1 for t in range(V)])
    rows = [[39 - t] if t < 30 else [t - 30, 9] if t < 50 else [] for t in range(V)]
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return VocabMap(to_target, to_drafter), FeedTable(
        offsets, torch.tensor([part for row in rows for part in row]), torch.arange(50, V)
    )


class ForeignPair(TransformersPair):
    """A pair of two tokenizers whose prompts are read token by token."""

    def prompt(self, ids):
        return [part for token in ids for part in self.feed(token)] or [0]


def make_pair(kind: str, dtype=torch.float32, eos=(), target="llama", drafter="llama", **changes):
    """(pair, vocabulary map) of a kind: full, same (the target drafts for itself), pruned or foreign.

    ``changes`` are of the target's configuration, and of a pruned drafter's.
    """
    model = make(target, **changes).to(dtype)
    if kind == "same":
        return TransformersPair(model, model, eos), identity(V)
    if kind == "full":
        return TransformersPair(model, make(drafter, 1, num_hidden_layers=1).to(dtype), eos), identity(V)
    if kind == "pruned":
        kept = torch.arange(0, V, 3)
        return TransformersPair(model, prune_head(make(drafter, 2, **changes).to(dtype), kept), eos), restrict(
            identity(V), kept
        )
    vocab, table = foreign_maps()
    return ForeignPair(model, make(drafter, 3, vocab_size=FOREIGN).to(dtype), eos, table), vocab


PROMPTS = [[5, 17, 2, 40, 8], [33], [1, 59, 3, 44, 21, 7, 7, 12], [9, 9, 55]]


@pytest.fixture(scope="session")
def models():
    """`make`, remembered: the models of a session are never changed."""
    known = {}

    def get(name, **changes):
        key = (name, tuple(sorted(changes.items())))
        if key not in known:
            known[key] = make(name, **changes)
        return known[key]

    return get


@pytest.fixture(scope="session")
def pairs():
    """`make_pair`, remembered."""
    known = {}

    def get(kind, **options):
        key = (kind, tuple(sorted(options.items(), key=str)))
        if key not in known:
            known[key] = make_pair(kind, **options)
        return known[key]

    return get


@pytest.fixture(scope="session")
def prompts():
    """Ragged prompts, one of a single token."""
    return [torch.tensor(ids) for ids in PROMPTS]


@pytest.fixture
def graphs(monkeypatch):
    """Compiled code is Dynamo's graph run as it is: everything but the C++ compiler, in a second instead of a minute.

    A list with the number of tokens of each call of it.
    """
    runs = []

    def compile(recorder, graph, example):
        def run(*inputs):
            tokens = [item for item in inputs if item.dtype == torch.int64 and item.ndim == 2]
            runs.extend(item.shape[1] for item in tokens)  # none in the later pieces of a broken graph
            return graph.forward(*inputs)

        return run

    monkeypatch.setattr(Recorder, "compile", compile)
    return runs


def compile_only(monkeypatch, kind, chosen=lambda work, n: True):
    """From now on nothing is compiled but the `chosen` of this kind of work, for n given tokens: Dynamo takes a second for each."""
    ready = Steps.ready

    def asked(self, n, capacity, work=None):
        return isinstance(work, kind) and chosen(work, n) and ready(self, n, capacity, work)

    monkeypatch.setattr(Steps, "ready", asked)


def performed(monkeypatch, kind, show):
    """What `show` makes of (work, tokens given) for each piece of compiled code of this kind that is run from now on."""
    shown, perform = [], TransformersModel.perform

    def noting(self, work, tokens, given):
        found = perform(self, work, tokens, given)
        if found is not None and isinstance(work, kind):
            shown.append(show(work, tokens))
        return found

    monkeypatch.setattr(TransformersModel, "perform", noting)
    return shown
