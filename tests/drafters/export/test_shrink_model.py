"""Full pruning and padding keep every logit they keep, in every family, tied or not."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from drafters.export.shrink_model import new_ids, padded_model, small_model
from drafters.models.prune import prune_head
from drafters.package_error import PackageError
from drafters.rounding import excess, logits_bound

pytestmark = pytest.mark.floats
IDS = torch.tensor([0, 1, 2, 5, 9, 13, 30, 47])
KEPT = torch.tensor([1, 5, 13, 30])
ROWS = torch.tensor([[1, 3, 6, 0]])
SIZES = {
    "vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "llama": {}, "gpt2": {"intermediate_size": None}, "gpt_neox": {}, "phi": {}, "qwen2": {"num_key_value_heads": 2},
    "opt": {"intermediate_size": None, "ffn_dim": 24, "word_embed_proj_dim": 16},
    "gemma2": {"num_key_value_heads": 1, "head_dim": 8, "final_logit_softcapping": 2.0},
}  # fmt: skip


def make(family: str, tied: bool | None = None):
    torch.manual_seed(0)
    settings = {key: value for key, value in {**SIZES, **FAMILIES[family]}.items() if value is not None}
    settings |= {} if tied is None else {"tie_word_embeddings": tied}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**settings)).eval()
    head = model.get_output_embeddings()
    if head.bias is not None:
        head.bias.data.normal_()
    return model


@pytest.mark.parametrize("placeholder", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_column_is_the_full_models(family, placeholder):
    full = make(family)
    small = small_model(prune_head(make(family), KEPT, scatter=True), full, IDS, placeholder)
    logits = small(ROWS).logits
    expected, bound = full(IDS[ROWS]).logits, logits_bound(full, IDS[ROWS])
    assert excess(logits[..., : len(IDS)], expected[..., IDS], bound[..., IDS]) <= 1
    assert small.config.get_text_config().vocab_size == len(IDS) + placeholder == logits.shape[-1]
    assert (small.config.bos_token_id, small.config.eos_token_id, small.config.pad_token_id) == (1, 2, 0)
    if placeholder and family != "gemma2":  # the cap is no linear map
        others = torch.tensor([i for i in range(48) if i not in IDS.tolist()])
        mean = expected[..., others].mean(-1)  # and so is the row: its logit errs by no more than theirs do on average
        assert excess(logits[..., -1], mean, bound[..., others].mean(-1)) <= 1


@pytest.mark.parametrize("tied", [False, True])
def test_a_tied_model_stays_tied(tied):
    full = make("llama", tied)
    small = small_model(prune_head(make("llama", tied), KEPT, scatter=True), full, IDS, False)
    assert (small.get_output_embeddings().weight is small.get_input_embeddings().weight) == tied
    assert excess(small(ROWS).logits, full(IDS[ROWS]).logits[..., IDS], logits_bound(small, ROWS)) <= 1


def test_what_was_learned_after_pruning_stays():
    pruned = prune_head(make("llama"), KEPT, scatter=True)
    pruned.get_output_embeddings().weight.data += 1
    small = small_model(pruned, make("llama"), IDS, False)
    columns = torch.searchsorted(IDS, KEPT)
    bound = logits_bound(small, ROWS)[..., columns]
    assert excess(small(ROWS).logits[..., columns], pruned(IDS[ROWS]).logits[..., KEPT], bound) <= 1


def test_rows_that_are_missing_are_asked_for():
    pruned = prune_head(make("llama"), KEPT, scatter=True)
    with pytest.raises(PackageError, match=r"further tokens.*pair\.drafter"):
        small_model(pruned, None, IDS, False)
    assert small_model(pruned, None, KEPT, False).config.vocab_size == len(KEPT)
    with pytest.raises(PackageError, match="must be the model"):
        small_model(pruned, make("phi"), IDS, False)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rows", [40, 48, 64])
def test_padding_changes_no_logit_and_never_wins(tied, rows):
    full = make("llama", tied)
    expected = full(ROWS).logits
    padded = padded_model(make("llama", tied), rows, used=40)
    logits = padded(ROWS).logits
    both = min(rows, 48)
    assert logits.shape[-1] == rows == padded.config.vocab_size
    assert excess(logits[..., :both], expected[..., :both], logits_bound(padded, ROWS)[..., :both]) <= 1
    assert int(logits.argmax(-1).max()) < 48
    assert (padded.get_output_embeddings().weight is padded.get_input_embeddings().weight) == tied


def test_rows_of_zeros_could_win():
    """Why a padding row is a mean: where all logits are negative, a zero beats them."""
    model = make("llama")
    with torch.no_grad():
        hidden = model.model(ROWS).last_hidden_state.mean((0, 1))
        model.get_output_embeddings().weight.copy_(-hidden.expand(48, -1) * torch.rand(48, 1))
    assert (model(ROWS).logits[0, 0] < 0).all()
    assert int(padded_model(model, 64, used=40)(ROWS).logits[0, 0].argmax()) < 48


def test_a_target_with_fewer_rows_than_tokens_is_refused():
    with pytest.raises(PackageError, match="form=full"):
        padded_model(make("llama"), 39, used=40)


def test_new_ids():
    ids = torch.tensor([3, 7, 9])
    assert [new_ids(old, ids) for old in (7, 4, None, [3, 9], [4], [4, 9])] == [1, None, None, [0, 2], None, [2]]
