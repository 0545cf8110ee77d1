"""Exports of the embedded pair and of tiny families, written once."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import drafters
from drafters.export.catalog import export
from drafters.export.common import ExportRequest
from drafters.export.older_readers import for_older_readers
from drafters.io.hub import local_source
from drafters.models.pair import vocabulary_size
from drafters.package.reader import load
from drafters.package.writer import Origin, describe, save_package
from drafters.vocab.alignment import identity, restrict
from tests.exports.releases import READERS, Reader

ZOO = Path(drafters.__file__).parent / "zoo" / "pycode"
KEPT = 1500


@pytest.fixture(autouse=True, scope="session")
def _asked_for() -> None:
    if not os.environ.get("DRAFTERS_TEST_EXPORTS"):
        pytest.skip("run by make test-exports: needs the releases of other engines, half a gigabyte")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``transformers`` is each of its releases."""
    if "transformers" in metafunc.fixturenames:
        names = [name for name in READERS if name.startswith("transformers")]
        metafunc.parametrize("transformers", [READERS[name] for name in names], ids=lambda reader: reader.name)


@pytest.fixture
def vllm() -> Reader:
    return READERS["vllm"]


def exported(base: Path, drafter: Path, rows: int, *forms: tuple[str, str], kept: int = KEPT) -> Path:
    """Package of the drafter in a folder, beside a target of ``rows`` rows; each of ``forms`` in a folder TO-FORM of ``base``."""
    model = AutoModelForCausalLM.from_pretrained(drafter, dtype="auto")
    ids = torch.arange(min(kept, vocabulary_size(model.config)))
    origins = [Origin(f"zoo/{role}", None, "apache-2.0", rows) for role in ("target", "drafter")]
    folder = save_package(
        base / "package", model=model, tokenizer=AutoTokenizer.from_pretrained(drafter), kept=ids,
        vocab=restrict(identity(rows), ids), licence="Apache-2.0",
        description=describe("pair", *origins, kept=len(ids), foreign=False, eos=(0,)),
    )  # fmt: skip
    package = load(folder, device="cpu", dtype="fp32")
    for name, form in forms:
        (base / f"{name}-{form}").mkdir()
        export(
            ExportRequest(package, folder, lambda: local_source(drafter, "drafter"), base / f"{name}-{form}"),
            name,
            form,
        )
    return base


ALL = (
    ("transformers", "full"), ("transformers", "padded"), ("vllm", "full"), ("vllm", "padded"), ("sglang", "map"), ("sglang", "padded"),
    ("speculators", "map"),
)  # fmt: skip


@pytest.fixture(scope="session")
def pycode(tmp_path_factory) -> Path:
    """Every form of the embedded pair's drafter, in folders TO-FORM."""
    return exported(tmp_path_factory.mktemp("pycode"), ZOO / "drafter", 16384, *ALL)


@pytest.fixture(scope="session")
def target(tmp_path_factory) -> Path:
    """The embedded target, its tokenizer in words of transformers 4, which could not open it either."""
    folder = Path(shutil.copytree(ZOO / "target", tmp_path_factory.mktemp("zoo") / "target"))
    for_older_readers(folder)
    return folder


def cut(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """The first layers of a Llama."""
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    return model


@pytest.fixture(scope="session")
def padded_pair(tmp_path_factory) -> Callable[..., SimpleNamespace]:
    """Of a real Llama folder: a target with 64 rows more than its tokenizer uses, and its first layers as a padded drafter."""

    def make(source: Path, layers: int) -> SimpleNamespace:
        base = tmp_path_factory.mktemp(source.parent.name)
        target, drafter = (shutil.copytree(source, base / name) for name in ("target", "drafter"))
        model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
        rows = vocabulary_size(model.config) + 64
        for note in ("_model_name_or_path", "unk_token_id"):
            model.config.__dict__.pop(note, None)
        cut(AutoModelForCausalLM.from_pretrained(source, config=model.config, dtype="auto"), layers).save_pretrained(
            drafter
        )
        model.config.num_hidden_layers = len(model.model.layers)
        model.resize_token_embeddings(rows, mean_resizing=False)
        model.save_pretrained(target)
        exported(base, drafter, rows, ("transformers", "padded"))
        return SimpleNamespace(target=target, drafter=base / "transformers-padded")

    return make


SIZES = {
    "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 128,
    "vocab_size": 16384, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
THETA = {"rope_theta": 500000.0, "rope_type": "default"}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [2.0] * 8,
    "original_max_position_embeddings": 64,
}
FAMILIES = {
    "llama": {"rope_parameters": THETA | LLAMA3, "num_key_value_heads": 1},
    "qwen2": {"rope_parameters": THETA, "num_key_value_heads": 1},
    "gemma3_text": {
        "rope_parameters": {"full_attention": THETA, "sliding_attention": {**THETA, "rope_theta": 2000.0}},
        "head_dim": 16, "num_key_value_heads": 1, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"],
    },
    "gpt_neox": {"rope_parameters": THETA | {"partial_rotary_factor": 0.5}},
    "phi": {"rope_parameters": THETA | {"partial_rotary_factor": 0.5}},
    "phi3": {"rope_parameters": THETA | LONG, "num_key_value_heads": 1, "original_max_position_embeddings": 64},
    "gpt2": {"intermediate_size": None},
}  # fmt: skip


@pytest.fixture(scope="session", params=FAMILIES)
def family(request, tmp_path_factory) -> Path:
    """The first two layers of nothing: a tiny random model of a family in bf16, padded and pruned."""
    settings = {name: value for name, value in {**SIZES, **FAMILIES[request.param]}.items() if value is not None}
    torch.manual_seed(0)
    base = tmp_path_factory.mktemp(request.param)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[request.param](**settings)).to(torch.bfloat16)
    model.save_pretrained(base / "drafter")
    AutoTokenizer.from_pretrained(ZOO / "drafter").save_pretrained(base / "drafter")
    return exported(base, base / "drafter", 16448, ("transformers", "padded"), ("vllm", "full"))
