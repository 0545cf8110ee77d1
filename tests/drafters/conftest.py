"""A package of a tiny random Llama, written once; every test gets its own copy to break."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from drafters.affinity.prior import AffinityPrior
from drafters.io.manifest import NAME, write_manifest
from drafters.models.tail import Tail
from drafters.package.components import StopModel
from drafters.package.recommendation.choices import Choice, Rated, Recommendation, Speedup, Target, Use
from drafters.package.writer import Origin, describe, save_package
from drafters.vocab.alignment import identity, restrict

VOCABULARY, HIDDEN, KEPT = 48, 16, [0, 1, 2, 3, 7, 11, 20, 33, 46]
EOS = (2, 1)


def make_tokenizer(size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    letters = ["<unk>", "<s>", "</s>", *(chr(0x21 + index) for index in range(size - 3))]
    backend = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(letters)}, merges=[], unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def make_model(size: int = VOCABULARY, tied: bool = False) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=HIDDEN,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def make_slots(rows: int = len(KEPT)) -> dict:
    """One of each optional component, with values that no default would give."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.rand(rows, 3, generator=generator)
    left = torch.tensor([token for token in range(VOCABULARY) if token not in KEPT][:5])
    shapes = {
        "mean": (4,), "scale": (4,), "layers.0.weight": (6, 4), "layers.0.bias": (6,),
        "layers.1.weight": (1, 6), "layers.1.bias": (1,),
    }  # fmt: skip
    config = {
        "name": "disco", "features": ["top_1", "top_2", "entropy", "position"], "hidden": [6], "outputs": 1,
        "activation": "relu", "threshold": 0.4, "parameters": {"k": 2}, "trained_on": {"sampler": "tli", "top_p": 1.0},
    }  # fmt: skip
    return {
        "affinity": AffinityPrior(
            index=torch.randint(VOCABULARY, (rows, 3), generator=generator, dtype=torch.int32),
            weight=weight / weight.sum(1, keepdim=True),
            share=torch.linspace(0, 0.9, rows),
        ),
        "tail": Tail(ids=left, down=torch.rand(2, HIDDEN), up=torch.rand(5, 2), bias=torch.rand(5)),
        "stop": StopModel(
            config, {name: torch.rand(shape, generator=generator) + 0.1 for name, shape in shapes.items()}
        ),
    }


def write(directory: Path, slots: bool = True, **changes) -> Path:
    """Save the standard package; ``changes`` replace arguments of `save_package`."""
    kept = torch.tensor(KEPT)
    arguments = {
        "model": make_model(),
        "tokenizer": make_tokenizer(),
        "kept": kept,
        "vocab": restrict(identity(VOCABULARY), kept),
        "description": describe(
            "tiny",
            Origin("org/target", "a" * 40, "mit", VOCABULARY),
            Origin("org/drafter", "b" * 40, "mit", VOCABULARY),
            kept=len(KEPT),
            foreign=False,
            eos=EOS,
            coverage=0.9,
        ),
        "licence": "MIT",
        **(make_slots() if slots else {}),
        **changes,
    }
    return save_package(directory, **arguments)


CHAIN = Use("package", "tli", {}, "static", 5)
TREE = Use(
    "package",
    "race_tree",
    {"branching": (3, (2, 0, 1)), "nodes": 15, "depth": None, "rank_law": (0.6, 0.2)},
    "static",
    3,
)


def rated(use: Use, ratio: float = 1.2, **changes) -> dict:
    """Arguments of Rated and Choice."""
    values = {"use": use, "speedup": Speedup(ratio, ratio - 0.1, ratio + 0.1), "predicted": ratio, "prompts": 12}
    return values | changes


def recommend(package: str, **changes) -> Recommendation:
    """For the package of that content hash: chains at T = 0, plain decoding at T = 1 with filters."""
    greedy = Choice(
        **rated(CHAIN, 1.6), temperature=0.0, reason="It is the fastest.",
        next=(Rated(**rated(Use("tail", "block", {}, "svip", 20))), Rated(**rated(TREE, by="model"))),
    )  # fmt: skip
    plain = Choice(**rated(Use(), 1.0), temperature=1.0, top_k=5, top_p=0.9, reason="Nothing beat plain decoding.")
    values = {
        "package": package, "target": Target("org/target", "a" * 40), "pair": "tiny", "suite": "pycode", "device": "cpu",
        "dtype": "fp32", "threads": 2, "code": "c" * 64, "choices": (greedy, plain), **changes,
    }  # fmt: skip
    return Recommendation(**values)


def reseal(directory: Path, **changes) -> None:
    """Give a changed package a manifest that fits it, as an attacker would."""
    manifest = read_manifest_unchecked(directory)
    fields = {
        "kind": manifest.kind,
        "key": manifest.key,
        "config": manifest.config,
        "inputs": manifest.inputs,
        **changes,
    }
    (directory / NAME).unlink()
    write_manifest(directory, **fields)


def read_manifest_unchecked(directory: Path):
    from drafters.io.manifest import _parse

    return _parse(directory / NAME)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with every slot filled. Never to be changed."""
    return write(tmp_path_factory.mktemp("package") / "original")


@pytest.fixture
def package(original: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(original, tmp_path / "package"))


@pytest.fixture(scope="session")
def tools() -> "type[Tools]":
    """The functions of this file, which importlib mode does not let tests import."""
    return Tools


class Tools:
    make_tokenizer: Callable = staticmethod(make_tokenizer)
    make_model: Callable = staticmethod(make_model)
    make_slots: Callable = staticmethod(make_slots)
    write: Callable = staticmethod(write)
    reseal: Callable = staticmethod(reseal)
    rated: Callable = staticmethod(rated)
    recommend: Callable = staticmethod(recommend)
    chain, tree = CHAIN, TREE
    vocabulary, hidden, kept, eos = VOCABULARY, HIDDEN, KEPT, EOS


@pytest.fixture
def content(package: Path) -> str:
    """Hash of what the copy holds, by which a recommendation names it."""
    return read_manifest_unchecked(package).content


@pytest.fixture
def made(content: str) -> Callable[..., Recommendation]:
    """Its recommendation, with changes."""
    return lambda **changes: recommend(changes.pop("package", content), **changes)
