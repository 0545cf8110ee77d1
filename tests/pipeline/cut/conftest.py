"""A small target of a learnt law, text that it said, and its cache: what a cut is trained on."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.cut import teacher
from pipeline.cut.text import documents, groups
from pipeline.text import generations

V, WINDOW = 50, 24


@pytest.fixture(scope="session")
def target():
    """Four layers of which the last two write nothing: a cut of the first two could be the target itself."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=64, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.0 if weight.ndim == 1 else 12.0)
        for layer in model.model.layers[2:]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


@pytest.fixture(scope="session")
def text(target, tmp_path_factory):
    """A folder as `generate` writes it: 48 prompts, two answers to each."""
    folder, random = tmp_path_factory.mktemp("generate"), torch.Generator().manual_seed(2)
    prompts = [torch.randint(3, V, (3 + number % 4,), generator=random) for number in range(48)] * 2
    torch.manual_seed(3)
    new = [target.generate(ids[None], max_new_tokens=12, do_sample=True)[0, len(ids) :] for ids in prompts]
    for shard in range(3):
        part = slice(32 * shard, 32 * shard + 32)
        (folder / f"shard-{shard:05d}.safetensors").write_bytes(generations.pack(prompts[part], new[part]))
    return folder


@pytest.fixture(scope="session")
def grouped(text):
    """Its documents in groups."""
    return list(groups(documents([text], WINDOW, 0.4)))


@pytest.fixture(scope="session")
def cache(target, grouped, tmp_path_factory):
    """The target's answers to them."""
    folder = tmp_path_factory.mktemp("teacher")
    paths = [teacher.shard_path(folder, "toy", group) for group in grouped]
    teacher.fill(paths, grouped, lambda: target, 1.0)
    return teacher.Cache(paths, grouped)


@pytest.fixture(scope="session")
def target_folder(target, tmp_path_factory):
    """The target as a model folder, each token a word."""
    folder = tmp_path_factory.mktemp("target")
    words = {name: number for number, name in enumerate(["<pad>", "<s>", "</s>", *(f"w{n}" for n in range(3, V))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    target.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<pad>"
    ).save_pretrained(folder)
    return folder
