"""Hugging Face model folders: proven harmless by `safe_load` and `json_rules`, then handed to transformers.

transformers is asked for local safetensors files only, never with ``trust_remote_code=True``, and only after the
keys by which a folder can name code, kernels or other folders have been refused.
"""

import contextlib
import sys
from collections.abc import Iterator

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from drafters.io.hub import Source
from drafters.io.json_rules import check_config_bounds, check_model_json, check_patterns
from drafters.io.safe_load import DAMAGED, MAX_TOKENIZER_BYTES, UNSAFE, TensorInfo, locate, read_header, read_json
from drafters.package_error import PackageError

# What is downloaded of a Hub repository: weights as safetensors, JSON, and the texts that tokenizers and licences need.
PATTERNS = ["*.safetensors", "*.json", "tokenizer.model", "merges.txt", "chat_template.jinja", "LICENSE*"]
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
CHECKED_JSON = (CONFIG, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
# Gemma 2 caps its attention scores; transformers 5.17 lets sdpa drop that cap without a word.
EAGER_ONLY = ("gemma2",)


def check_model_folder(source: Source) -> dict[str, TensorInfo]:
    """Check every file of a model folder that transformers would act on; returns what its weights declare.

    Raises:
        PackageError: a key that reaches for code, a size out of range, or weights that are missing, not safetensors,
            malformed, or outside the folder.
    """
    folder, root = source.folder, source.root
    names = sorted(path.name for path in folder.iterdir() if not path.is_dir())
    if CONFIG not in names:
        raise PackageError(CONFIG, "file", f"a model folder at {source.id}", f"no {CONFIG}", DAMAGED)
    for name in names:
        # transformers would follow an adapter to its base model, and prefer the shards of a distributed checkpoint.
        if name == "adapter_config.json" or name.startswith("shard-"):
            fix = "Merge it into a plain model and save that with save_pretrained."
            raise PackageError(name, "file", "a plain model folder", "an adapter or distributed checkpoint", fix)
        if name in CHECKED_JSON:
            check_model_json(read_json(folder, name, MAX_TOKENIZER_BYTES, root), name)
    check_config_bounds(read_json(folder, CONFIG, root=root), CONFIG)
    if WEIGHTS in names:
        return read_header(folder, WEIGHTS, root)
    if INDEX in names:
        return _check_shards(source)
    others = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".gguf"))]
    fix = "Convert the weights with model.save_pretrained(DIR) in a place where you trust them."
    raise PackageError(WEIGHTS, "file", "weights as safetensors", ", ".join(others) or "none", fix)


def _check_shards(source: Source) -> dict[str, TensorInfo]:
    weight_map = read_json(source.folder, INDEX, MAX_TOKENIZER_BYTES, source.root).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise PackageError(INDEX, "weight_map", "an object of tensor names and file names", weight_map, DAMAGED)
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or "/" in shard or not shard.endswith(".safetensors"):
            raise PackageError(INDEX, f"weight_map.{tensor}", "the bare name of a .safetensors file", shard, UNSAFE)
    tensors: dict[str, TensorInfo] = {}
    for shard in sorted(set(weight_map.values())):
        tensors |= read_header(source.folder, shard, source.root)
    if missing := sorted(set(weight_map) - set(tensors)):
        raise PackageError(INDEX, f"weight_map.{missing[0]}", "a tensor of the named file", "none", DAMAGED)
    return tensors


def open_config(source: Source, fix: str) -> PreTrainedConfig:
    """The config of a checked folder, proven to be a decoder-only causal LM that transformers itself implements.

    Raises:
        PackageError: another kind of model, or a ``model_type`` that this transformers does not know.
    """
    try:
        config = AutoConfig.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # validators of config classes raise errors of their own kinds
        raise PackageError(CONFIG, "model_type", "a model that transformers knows", str(error), fix) from error
    names = config.architectures or []
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and (not names or any(name.endswith(CAUSAL) for name in names))
    if not causal or getattr(config, "is_encoder_decoder", False):
        got = f"{', '.join(names) or 'no architectures'} (model_type {config.model_type})"
        raise PackageError(CONFIG, "architectures", "a decoder-only causal language model", got, fix)
    return config


def model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """transformers' own causal LM class of a config that `open_config` returned."""
    found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


def attention(config: PreTrainedConfig) -> str:
    """The attention implementation we ask for; never the one that a folder names."""
    supported = getattr(model_class(config), "_supports_sdpa", False)
    return "sdpa" if supported and config.model_type not in EAGER_ONLY else "eager"


def open_model(
    source: Source, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, sharded: bool = False
) -> PreTrainedModel:
    """The model of a checked folder in evaluation mode, without gradients.

    Args:
        sharded: let accelerate spread the layers over all accelerators (``device_map="auto"``).

    Raises:
        PackageError: weights that do not fill the model; transformers alone would go on with random ones.
    """
    options = {"device_map": "auto"} if sharded else {}
    with quiet():
        model, report = model_class(config).from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention(config),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # so that they are reported here, by name, with the missing ones
            output_loading_info=True,
            **options,
        )
    wrong = sorted(report["missing_keys"]) + sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if wrong:
        got = f"{len(wrong)} tensors missing or of another shape"
        raise PackageError("model.safetensors", wrong[0], f"weights of {type(model).__name__}", got, DAMAGED)
    model.eval().requires_grad_(False)
    return model if sharded else model.to(device)


def open_generation_config(source: Source) -> GenerationConfig | None:
    """The generation config of a checked folder, None where it has none."""
    if not (source.folder / "generation_config.json").exists():
        return None
    return GenerationConfig.from_pretrained(source.folder, local_files_only=True)


def open_tokenizer(source: Source, fix: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checked folder.

    Raises:
        PackageError: none there, or one that transformers cannot build without the author's code.
    """
    if (source.folder / "tokenizer.json").exists():
        check_patterns(read_json(source.folder, "tokenizer.json", MAX_TOKENIZER_BYTES, source.root))
    for name in ("tokenizer.model", "merges.txt", "chat_template.jinja"):
        if (source.folder / name).is_symlink():
            locate(source.folder, name, source.root)
    try:
        return AutoTokenizer.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except BaseException as error:
        # A panic inside tokenizers derives from BaseException alone.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        got = f"{type(error).__name__}: {error}"
        raise PackageError("tokenizer.json", "file", "a tokenizer that transformers can load", got, fix) from error


@contextlib.contextmanager
def quiet(always: bool = False) -> Iterator[None]:
    """transformers' loading bars only where someone watches; ``always``: not even there, as a bar of ours is up."""
    shown = transformers_logging.is_progress_bar_enabled()
    if always or not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
