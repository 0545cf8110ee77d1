"""Plain models for readers that know nothing of a pruned head: the drafter with fewer rows, or with padded ones.

Both are ordinary checkpoints of a stock class. `small_model` loses head, embedding and tokenizer rows alike and speaks
an alphabet of its own; `padded_model` keeps everything and only agrees with the target on the number of rows.
"""

import copy

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from drafters.models.architecture import attention, model_class
from drafters.models.heads import PrunedHead
from drafters.models.model_folder import quiet
from drafters.models.tying import is_tied
from drafters.package_error import PackageError

# Ids elsewhere than in these three name tokens by numbers that no longer exist; readers fall back to defaults.
ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")


def small_model(
    pruned: PreTrainedModel, full: PreTrainedModel | None, ids: Tensor, placeholder: bool
) -> PreTrainedModel:
    """A stock model whose row i is the old id ``ids[i]``.

    Args:
        pruned: the drafter with a `PrunedHead`; everything it knows is taken from it. full: the drafter before it was
            pruned, for the head rows of tokens that only stay because others need them; None if there are none.
        ids: int64 (n,) ascending. placeholder: add a last row that stands for all dropped tokens: the mean of theirs,
            so that its logit is the mean of their logits, and never the largest.

    Raises:
        PackageError: head rows are needed that ``pruned`` has not and ``full`` is not given or is another model.
    """
    head = pruned.get_output_embeddings()
    embedding = pruned.get_input_embeddings().weight.detach()  # (V, H)
    weight, bias = _head_rows(head, full, ids, placeholder, embedding)
    rows = embedding[ids]
    if placeholder:
        rows = torch.cat([rows, _mean_of_others(embedding, ids)])
    config = small_config(pruned.config, ids, len(rows))
    tied = bias is None and weight.shape == rows.shape and torch.equal(weight, rows)
    config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = tied
    model = _build(pruned, config, rows, weight, bias)
    roles = {role: new_ids(getattr(pruned.generation_config, role), ids) for role in ROLES}
    model.generation_config = GenerationConfig(**roles)
    return model


def padded_model(full: PreTrainedModel, vocabulary: int, used: int) -> PreTrainedModel:
    """``full`` with ``vocabulary`` rows in embedding and head, in place: one family pads its sizes differently.

    Rows are cut only beyond the ``used`` ids of the tokenizer. A new row is the mean of the others: its logit is the
    mean of theirs, so greedy drafting never says a token that does not exist (a row of zeros would beat negative logits).

    Raises:
        PackageError: the target has fewer rows than the drafter's tokenizer uses.
    """
    if vocabulary < used:
        fix = "The tokenizers differ: use form=full, which brings a tokenizer of its own."
        raise PackageError("drafters.json", "target.vocabulary", f"at least the {used:,} tokens used", vocabulary, fix)
    config, tied = full.config.get_text_config(), is_tied(full)
    if config.vocab_size == vocabulary:
        return full
    old = full.get_output_embeddings()
    head = nn.Linear(old.in_features, vocabulary, bias=old.bias is not None, dtype=old.weight.dtype)
    head.weight = nn.Parameter(_resized(old.weight, vocabulary), requires_grad=False)
    if old.bias is not None:
        head.bias = nn.Parameter(_resized(old.bias, vocabulary), requires_grad=False)
    table = full.get_input_embeddings()
    table.weight = head.weight if tied else nn.Parameter(_resized(table.weight, vocabulary), requires_grad=False)
    table.num_embeddings = vocabulary
    full.set_output_embeddings(head)
    config.vocab_size = vocabulary
    return full


def small_config(config: PreTrainedConfig, ids: Tensor, rows: int) -> PreTrainedConfig:
    """A copy for ``rows`` rows; bos, eos and pad get their new ids."""
    small = copy.deepcopy(config)
    for part in {id(part): part for part in (small, small.get_text_config())}.values():
        part.vocab_size = rows
        for role in ROLES:
            if hasattr(part, role):
                setattr(part, role, new_ids(getattr(part, role), ids))
    return small


def new_ids(old: int | list[int] | None, ids: Tensor) -> int | list[int] | None:
    """An id, or a list of them, in the numbering of ``ids``; what is gone is left out, None where nothing is left."""
    place = {int(number): row for row, number in enumerate(ids)}
    if isinstance(old, list):
        return [place[number] for number in old if number in place] or None
    return None if old is None else place.get(old)


def _head_rows(
    head: PrunedHead, full: PreTrainedModel | None, ids: Tensor, placeholder: bool, embedding: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Weight (n, H) and bias (n,) of the small head: kept rows from the pruned head, the others from the full one."""
    weight = embedding.new_zeros(head.vocabulary, head.weight.shape[1])  # (V, H)
    bias = None if head.bias is None else embedding.new_zeros(head.vocabulary)
    lacking = sorted(set(ids.tolist()) - set(head.kept.tolist()))
    if lacking or placeholder:
        if full is None:
            fix = "Give the drafter it was pruned from: pair.drafter=DIR (and pair.drafter_revision for a Hub id)."
            got = f"a package without head rows for {len(lacking):,} further tokens"
            raise PackageError("model.safetensors", "lm_head", "all rows that a smaller tokenizer needs", got, fix)
        source = full.get_output_embeddings()
        if source.weight.shape[1] != weight.shape[1] or (source.bias is None) != (bias is None):
            fix = "pair.drafter must be the model that the package was made from."
            raise PackageError("model.safetensors", "lm_head", f"H={weight.shape[1]}", tuple(source.weight.shape), fix)
        rows = min(len(source.weight), head.vocabulary)
        weight[:rows] = source.weight.detach()[:rows].to(weight)
        if bias is not None and source.bias is not None:
            bias[:rows] = source.bias.detach()[:rows].to(bias)
    weight[head.kept] = head.weight.detach()
    if bias is not None and head.bias is not None:
        bias[head.kept] = head.bias.detach()
    if not placeholder:
        return weight[ids], None if bias is None else bias[ids]
    extra = None if bias is None else torch.cat([bias[ids], _mean_of_others(bias, ids)])
    return torch.cat([weight[ids], _mean_of_others(weight, ids)]), extra


def _mean_of_others(table: Tensor, ids: Tensor) -> Tensor:
    """The mean of the rows that ``ids`` leave out, (1, ...); of all rows where nothing is left out."""
    others = torch.ones(len(table), dtype=torch.bool)
    others[ids] = False
    chosen = table[others] if bool(others.any()) else table
    return chosen.float().mean(dim=0, keepdim=True).to(table.dtype)


def _resized(table: Tensor, rows: int) -> Tensor:
    table = table.detach()
    if rows <= len(table):
        return table[:rows].clone()
    mean = table.float().mean(dim=0, keepdim=True).to(table.dtype)
    return torch.cat([table, mean.expand(rows - len(table), *table.shape[1:])])


def _build(
    pruned: PreTrainedModel, config: PreTrainedConfig, rows: Tensor, weight: Tensor, bias: Tensor | None
) -> PreTrainedModel:
    """The stock class with the pruned model's body and these tables. Raises RuntimeError when a tensor does not fit."""
    names = {id(module): name for name, module in pruned.named_modules()}
    table, head = names[id(pruned.get_input_embeddings())], names[id(pruned.get_output_embeddings())]
    state = pruned.state_dict() | {f"{table}.weight": rows, f"{head}.weight": weight}
    if bias is not None:
        state[f"{head}.bias"] = bias
    with quiet():
        model = model_class(config)._from_config(config, dtype=rows.dtype, attn_implementation=attention(config))
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)
