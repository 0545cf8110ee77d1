"""Head surgery: a causal LM keeps its whole input embedding and loses all output rows but the kept ones.

Input ids stay absolute, so any target token can still be fed. On disk a pruned model is an ordinary Hugging Face folder
whose ``model.safetensors`` has D head rows, plus ``vocab.safetensors`` with their ids; the stock class would refuse it
(or drop the head silently, where it was tied), so `load_pruned` builds the class with the short head in place.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel

from drafters.models.architecture import CONFIG, find_class, undeclared
from drafters.models.heads import PrunedHead, PruneError, check_kept

VOCAB_FILE = "vocab.safetensors"


def prune_head(model: PreTrainedModel, kept: Tensor, scatter: bool = False) -> PreTrainedModel:
    """Swap the model's head for its rows ``kept``, int64 (D,) ascending, in place; the model is also returned.

    A tied head is untied first: the embedding keeps all rows and `tie_weights` leaves the new head alone. Whatever the
    model does to its logits after the head (soft cap, scale) happens to the kept ones alone, so they equal the full
    model's. Raises PruneError for a model without a linear head, one already pruned, or ids outside its rows.
    """
    head = model.get_output_embeddings()
    if isinstance(head, PrunedHead):
        raise PruneError(f"the head of {type(model).__name__} is pruned already, to {len(head.kept):,} rows")
    if not isinstance(head, nn.Linear):
        raise PruneError(f"{type(model).__name__} must have a linear output head, got {type(head).__name__}")
    vocabulary = len(head.weight)
    check_kept(kept, vocabulary)
    kept = kept.to(head.weight.device)
    weight = head.weight.detach()[kept]  # indexing copies: nothing is shared with the embedding any more
    bias = None if head.bias is None else head.bias.detach()[kept]
    _install(model, PrunedHead(weight, bias, kept, vocabulary, scatter))
    return model


def _install(model: PreTrainedModel, head: PrunedHead) -> None:
    """Put ``head`` in and make sure that nothing ties it to the embedding or fills its holes."""
    name = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    model.set_output_embeddings(head)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    for attribute in ("_tied_weights_keys", "all_tied_weights_keys"):
        tied = getattr(model, attribute, None) or {}
        setattr(model, attribute, {key: source for key, source in tied.items() if not key.startswith(f"{name}.")})
    if head.scatter:
        model.register_forward_hook(_mask_again)


def _mask_again(model: nn.Module, args: Any, output: Any) -> None:
    """Forward hook of the scatter form: -inf again, in place, where a soft cap (Gemma2's tanh) made it finite."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    values = output.values() if isinstance(output, Mapping) else output
    for logits in values:
        if isinstance(logits, Tensor) and logits.shape[-1:] == (head.vocabulary,):
            dropped = torch.ones(head.vocabulary, dtype=torch.bool, device=logits.device)
            logits.masked_fill_(dropped.index_fill_(0, head.kept.to(logits.device), False), -torch.inf)
            return


def save_pruned(model: PreTrainedModel, kept: Tensor, directory: str | Path) -> None:
    """Write ``model``, pruned to ``kept`` (in place, unless it is already), as a folder that `load_pruned` reads.

    What a maker noted in the config and its class does not declare is left out.

    Raises PruneError as `prune_head` does, and where the model is pruned to other ids.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, PrunedHead):
        prune_head(model, kept)
    elif not torch.equal(head.kept.cpu(), kept.cpu()):
        raise PruneError(f"the model keeps {len(head.kept):,} ids that differ from the {len(kept):,} to be saved")
    directory = Path(directory)
    if model.generation_config is not None:
        model.generation_config = _writable(model.generation_config)
    model.save_pretrained(directory)
    written = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    text = json.dumps(undeclared(model.config, written)[0], indent=2, sort_keys=True)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")
    save_file({"kept": kept.cpu().contiguous()}, directory / VOCAB_FILE, metadata={"format": "pt"})


def _writable(generation: GenerationConfig) -> GenerationConfig:
    """A copy without keys that transformers does not know; of one that it reads but refuses to write, its token ids alone.

    Many published ones are such: a temperature without do_sample, say. Nobody samples by a drafter's own settings.
    """
    generation = copy.deepcopy(generation)
    for key in generation.to_dict().keys() - GenerationConfig().to_dict().keys():
        delattr(generation, key)
    try:
        generation.validate(strict=True)
    except ValueError:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        ids = {name: getattr(generation, name) for name in names}
        return GenerationConfig(
            **{name: ids[name] for name in names if not isinstance(ids[name], int) or ids[name] >= 0}
        )
    return generation


def load_pruned(directory: str | Path, scatter: bool = False, **options: Any) -> PreTrainedModel:
    """The model that `save_pruned` wrote, with its short head; logits (..., D), or (..., V) with ``scatter``.

    ``options`` go to `from_pretrained` (dtype, device_map, attn_implementation). Only safetensors are read, only from
    ``directory``, and no code from it. Raises PruneError where head rows, kept ids and config do not belong together.
    """
    directory = Path(directory)
    if not (directory / VOCAB_FILE).is_file():
        raise PruneError(f"{directory} holds no {VOCAB_FILE} with kept ids: it is no pruned model; run stage=prune")
    kept = load_file(directory / VOCAB_FILE)["kept"]
    config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    check_kept(kept, config.get_text_config().vocab_size)
    try:
        model, report = _pruned_class(config, kept, scatter).from_pretrained(
            directory, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except RuntimeError as error:  # how from_pretrained reports tensors of another shape
        raise PruneError(f"the weights in {directory} do not fit a head of {len(kept):,} rows: {error}") from error
    # A missing tensor would be left at random values with no more than a log line.
    if wrong := {kind: sorted(map(str, names)) for kind, names in report.items() if names}:
        raise PruneError(f"the weights in {directory} are not those of a pruned {type(model).__name__}: {wrong}")
    head = model.get_output_embeddings()
    head.kept = kept.to(head.weight.device)  # not in the weights file, so from_pretrained left it undefined
    return model


def _pruned_class(config: PreTrainedConfig, kept: Tensor, scatter: bool) -> type[PreTrainedModel]:
    """The config's causal LM class, built with a short head so that the stock loader fills it row for row."""
    base = find_class(config)
    if base is None:
        raise PruneError(f"a causal LM is expected, got the model type {config.model_type!r}")

    def build(self: PreTrainedModel, *args: Any, **kwargs: Any) -> None:
        base.__init__(self, *args, **kwargs)
        full = self.get_output_embeddings()
        weight = full.weight.new_empty(len(kept), full.weight.shape[1])
        bias = None if full.bias is None else full.bias.new_empty(len(kept))
        _install(self, PrunedHead(weight, bias, kept, len(full.weight), scatter))

    # The stock name and module stay: by them transformers finds the class's checkpoint key renames (GPT-NeoX has one),
    # and the name is what `config.architectures` records when the model is saved again.
    return type(base.__name__, (base,), {"__init__": build, "__module__": base.__module__})
