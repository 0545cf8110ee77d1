"""What a checked config describes: transformers' own class for it, and which of its keys that class declares."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
)

from drafters.io.hub import Source
from drafters.io.model_json import tidy
from drafters.io.safe_load import DAMAGED, UNSAFE, read_json
from drafters.package_error import PackageError

CONFIG = "config.json"
CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
# Gemma 2 caps its attention scores; transformers 5.17 lets sdpa drop that cap without a word.
EAGER_ONLY = ("gemma2",)
# Keys every config may hold although its class does not list them; the second row is what transformers' models and caches
# ask any config for, by `getattr` with a default.
COMMON_KEYS = {
    "architectures", "dtype", "torch_dtype", "model_type", "transformers_version", "_name_or_path",
    "attention_chunk_size", "head_dim", "is_causal", "layer_types", "max_position_embeddings", "router_bias", "sliding_window",
}  # fmt: skip


def native_model(part: Mapping[str, Any]) -> bool:
    """Whether transformers itself implements the ``model_type`` of a config or of a part of one."""
    kind = part.get("model_type")
    return (
        isinstance(kind, str) and kind in CONFIG_MAPPING and CONFIG_MAPPING[kind].__module__.startswith("transformers.")
    )


def open_config(source: Source, fix: str) -> PreTrainedConfig:
    """The config of a checked folder, proven to be a decoder that writes text and that transformers itself implements.

    A composite (a vision-language model, say) counts: its text part is what is used.

    Raises:
        PackageError: another kind of model, or a ``model_type`` that this transformers does not know.
    """
    data, _ = tidy(read_json(source.folder, CONFIG, root=source.root), CONFIG, native_model)
    for key in _part_keys(data):  # an attribute of that name would hide the method
        if callable(getattr(PreTrainedConfig, key, None)):
            raise PackageError(CONFIG, key, "no key that hides a method of the config", "this key", UNSAFE)
    if not isinstance(kind := data.get("model_type"), str) or kind not in CONFIG_MAPPING:
        raise PackageError(CONFIG, "model_type", "a model type that transformers implements", kind, fix)
    try:
        with TemporaryDirectory() as clean:  # transformers reads what is left, never the maker's notes
            (Path(clean) / CONFIG).write_text(json.dumps(data), encoding="utf-8")
            config = AutoConfig.from_pretrained(clean, local_files_only=True, trust_remote_code=False)
            config.name_or_path = str(source.folder)
    except Exception as error:  # validators of config classes raise errors of their own kinds
        raise PackageError(CONFIG, "model_type", "a model that transformers knows", str(error), fix) from error
    names = config.architectures or []
    causal = find_class(config) is not None and (not names or any(name.endswith(CAUSAL) for name in names))
    if not causal or getattr(config, "is_encoder_decoder", False):
        got = f"{', '.join(names) or 'no architectures'} (model_type {config.model_type})"
        raise PackageError(CONFIG, "architectures", "a decoder-only causal language model", got, fix)
    return config


def _part_keys(data: Mapping[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        yield key
        if key.endswith("_config") and isinstance(value, Mapping):
            yield from _part_keys(value)


def find_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """transformers' class for writing text with this config: the one it names, else the first there is, else None."""
    found: list[type[PreTrainedModel]] = []
    for mapping in (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_FOR_MULTIMODAL_LM_MAPPING,
    ):
        if type(config) in mapping:
            classes = mapping[type(config)]
            found += classes if isinstance(classes, tuple) else (classes,)
    named = [kind for kind in found if kind.__name__ in (config.architectures or [])]
    return next(iter([*named, *found]), None)


def model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """transformers' own class of a config that `open_config` returned."""
    found = find_class(config)
    assert found is not None, config.model_type
    return found


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The model of a config without storage for its weights. Raises PackageError for one that cannot be built."""
    try:
        with torch.device("meta"):
            return model_class(config)(config)
    except ImportError as error:  # of parts that no text model reads too: Gemma 3n's eyes are another library's
        named = re.search(r"pip install ([\w-]+)", str(error))
        library = named[1] if named else error.name or str(error).strip()
        expected, fix = f"{library}, which transformers builds a {config.model_type} with", f"pip install {library}"
        raise PackageError(CONFIG, "model", expected, f"no {library}", fix) from error
    except Exception as error:  # each family checks its own sizes and names, and raises what it likes
        raise PackageError(CONFIG, "model", f"a {config.model_type} that can be built", str(error), DAMAGED) from error


def attention(config: PreTrainedConfig) -> str:
    """The attention implementation we ask for; never the one that a folder names."""
    supported = getattr(model_class(config), "_supports_sdpa", False)
    kinds = (config.model_type, config.get_text_config().model_type.removesuffix("_text"))
    return "sdpa" if supported and not set(kinds) & set(EAGER_ONLY) else "eager"


def declared_keys(kind: type[PreTrainedConfig]) -> set[str]:
    """The top-level keys of a ``config.json`` that a config class gives a meaning to."""
    try:
        default = kind().to_dict()
    except Exception:  # a class whose own default breaks its own rules
        default = {}
    return {*default, *(field.name for field in dataclasses.fields(kind)), *kind.attribute_map, *COMMON_KEYS}


def undeclared(config: PreTrainedConfig, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """``data``, the config as JSON, without the keys that its classes do not declare; and those, dotted, in order."""
    known, kept, left = declared_keys(type(config)), {}, []
    for key, value in data.items():
        if key not in known:
            left.append(key)
            continue
        part = getattr(config, key, None)
        if isinstance(part, PreTrainedConfig) and isinstance(value, Mapping):
            value, deeper = undeclared(part, value)
            left += [f"{key}.{name}" for name in deeper]
        kept[key] = value
    return kept, left
