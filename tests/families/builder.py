"""Writes a family's pair into folders: tiny random weights under the JSON files that the family publishes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from drafters.models.architecture import find_class
from tests.families.family import Family, Published
from tests.families.tokenizer import ids, make

NOISE = 0.02  # of the drafter's weights beside the target's: most of its tokens are accepted
SHARD = "60KB"
SEEDS = 20  # tried for weights whose greedy text does not repeat itself
PLAIN = "You may reproduce and distribute copies of the Work"
EARLIEST, LATEST = 12, 30  # new tokens after which its greedy continuation ends
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
FLAGS = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"  # a model file: one piece


def write_pair(family: Family, folder: Path) -> tuple[Path, Path]:
    """Write target and drafter below ``folder``; returns the two folders."""
    target, drafter = (folder / role / name(model) for role, model in _roles(family))
    teacher = write(family.target, target, None)
    write(family.drafter, drafter, teacher)
    return target, drafter


def _roles(family: Family) -> tuple[tuple[str, Published], tuple[str, Published]]:
    return ("target", family.target), ("drafter", family.drafter)


def name(model: Published) -> str:
    """The last part of its name on the Hub."""
    return model.id.rpartition("/")[2]


def write(model: Published, folder: Path, teacher: PreTrainedModel | None) -> PreTrainedModel | None:
    """Write one model's folder; returns its weights, None for a family that transformers does not know."""
    folder.mkdir(parents=True)
    numbers = ids(model.kind)
    rows = max(numbers.values()) + 1 + model.padding
    config = resolved({**model.config, "_name_or_path": model.id, "torch_dtype": model.dtype}, numbers)
    config.get("text_config", config)["vocab_size"] = rows
    _write_tokenizer(model, folder)
    weights = _weights(config, folder, model, teacher)
    _write(folder, "config.json", config)
    if model.generation is None:
        (folder / "generation_config.json").unlink(missing_ok=True)
    else:
        note = {"_from_model_config": True, "transformers_version": "4.46.0"}
        _write(folder, "generation_config.json", resolved({**note, **model.generation}, numbers))
    return weights


def resolved(value: Any, numbers: Mapping[str, int], key: str = "") -> Any:
    """``value`` with tokens replaced by their ids wherever the key asks for ids."""
    if isinstance(value, Mapping):
        return {name: resolved(item, numbers, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(item, numbers, key) for item in value]
    return numbers[value] if isinstance(value, str) and key.endswith(("_token_id", "_token_index")) else value


def _write(folder: Path, file: str, data: Mapping[str, Any]) -> None:
    (folder / file).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _weights(
    published: Mapping[str, Any], folder: Path, model: Published, teacher: PreTrainedModel | None
) -> PreTrainedModel | None:
    """Save the weights in the family's dtype and shards."""
    notes = ("auto_map", "quantization_config")
    _write(folder, "config.json", {key: value for key, value in published.items() if key not in notes})
    try:
        config = AutoConfig.from_pretrained(folder)
        kind = find_class(config)
        assert kind is not None, config
        built = kind(config)
    except (
        ValueError,
        ImportError,
    ):  # transformers lacks the family, or a library for it: weights that nobody will open
        _save(nn.Linear(4, 4), folder)
        return None
    dtype = getattr(torch, model.dtype)
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        _draw(built.float())
        if teacher is not None:
            _imitate(built, teacher)
        for parameter in built.eval().parameters():  # as they will be read; buffers stay exact
            parameter.data = parameter.data.to(dtype).float()
        if teacher is not None or _end(built, model, folder):
            break
    built.to(dtype).save_pretrained(folder, max_shard_size=SHARD if model.sharded else "1GB")
    return built.float()


def _save(module: nn.Module, folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(module.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def _draw(model: PreTrainedModel) -> None:
    """Weights by which the layers, not the embedding of the last token, say what comes next."""
    embedding = model.get_input_embeddings().weight
    for parameter in model.parameters():
        if parameter is embedding:
            parameter.normal_(
                std=0.05 / getattr(model.config, "embedding_multiplier", 1.0)
            )  # a tied head else repeats itself
        elif parameter.dim() > 1:
            parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
    head = model.get_output_embeddings().weight
    if head is not embedding and head.shape == embedding.shape:  # so that a drafter whose head is tied says the same
        head.copy_(embedding)


def plain(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """`PLAIN` without ends of text: OPT's tokenizer begins with one, ModernBERT's puts its separator behind."""
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
    return [token for token in tokenizer.encode(PLAIN) if token not in ends]


@torch.no_grad()
def _end(target: PreTrainedModel, model: Published, folder: Path) -> bool:
    """Let greedy decoding of `PLAIN` end with the last of the ends of text that the family names.

    The rows of that token and of one that comes up late are exchanged: nothing before it changes. False where none does.
    """
    numbers = ids(model.kind)
    ends = resolved(
        {"eos_token_id": (model.generation or {}).get("eos_token_id", model.config.get("eos_token_id"))}, numbers
    )
    prompt = plain(AutoTokenizer.from_pretrained(folder))
    start = torch.tensor([prompt])
    options = {"attention_mask": torch.ones_like(start), "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    said = target.generate(start, max_new_tokens=LATEST, **options)[0].tolist()
    late = next((said[at] for at in range(len(prompt) + EARLIEST, len(said)) if said[at] not in said[:at]), None)
    end = ends["eos_token_id"][-1] if isinstance(ends["eos_token_id"], list) else ends["eos_token_id"]
    if late is None or end in said[: said.index(late)]:
        return False
    # One where they are tied.
    for rows in {target.get_input_embeddings().weight, target.get_output_embeddings().weight}:
        rows.data = rows.clone().index_copy(0, torch.tensor([late, end]), rows[[end, late]])
    return True


@torch.no_grad()
def _imitate(drafter: PreTrainedModel, target: PreTrainedModel) -> None:
    """Give the drafter the target's weights wherever the two have them, a little off, so that drafts are accepted."""
    known = {name.replace("language_model.", ""): value for name, value in target.named_parameters()}
    for key, value in drafter.named_parameters():
        other = known.get(key)
        if other is None or other.dim() != value.dim() or other.shape[1:] != value.shape[1:]:
            continue
        rows = min(len(other), len(value))
        value[:rows] = other[:rows] * (1 + NOISE * torch.randn_like(other[:rows]))


def _write_tokenizer(model: Published, folder: Path) -> None:
    text = make(model.kind)
    data = json.loads(text)
    if "tokenizer.json" in model.files:
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    if "vocab.json" in model.files:
        Tokenizer.from_str(text).model.save(str(folder))
    if "tokenizer.model" in model.files:
        (folder / "tokenizer.model").write_bytes(SENTENCEPIECE)
    settings = dict(model.tokenizer)
    if model.decoder:
        settings["added_tokens_decoder"] = {
            str(entry["id"]): {flag: entry[flag] for flag in FLAGS} for entry in data["added_tokens"]
        }
    if model.template is not None:
        settings["chat_template"] = model.template
    _write(folder, "tokenizer_config.json", settings)
    roles = {key: model.tokenizer[key] for key in ROLES if model.tokenizer.get(key)}
    plain = {
        key: {flag: value[flag] for flag in value if flag != "__type"} if isinstance(value, dict) else value
        for key, value in roles.items()
    }
    if plain:
        _write(folder, "special_tokens_map.json", plain)
