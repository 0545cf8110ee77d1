"""A tiny target and drafter with one vocabulary, random but for twins: tokens TWINS[0] and TWINS[1] are the same one."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

VOCABULARY = 24
TWINS = (5, 9)


def llama(seed: int, layers: int = 2) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2,
        max_position_embeddings=96, tie_word_embeddings=False, initializer_range=0.3, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def target() -> PreTrainedModel:
    model = llama(0)
    with torch.no_grad():
        for table in (model.get_input_embeddings(), model.get_output_embeddings()):
            table.weight[TWINS[1]] = table.weight[TWINS[0]]
        model.get_output_embeddings().weight[list(TWINS)] *= 1.5  # chosen often enough to be met
    return model


@pytest.fixture(scope="session")
def drafter() -> PreTrainedModel:
    return llama(1, layers=1)


@pytest.fixture(scope="session")
def twins() -> tuple[int, int]:
    return TWINS
