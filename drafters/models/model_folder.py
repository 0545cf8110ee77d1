"""Hugging Face model folders: proven harmless by `safe_load` and `model_json`, then handed to transformers.

transformers is asked for local safetensors files only, never with ``trust_remote_code=True``, and only after the
keys by which a folder can name code, kernels or other folders have been refused.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import (
    MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS,
    TOKENIZER_MAPPING_NAMES,
    tokenizer_class_from_name,
)
from transformers.utils import logging as transformers_logging

from drafters.io.borrowed_json import BORROWED, read_borrowed
from drafters.io.hub import Source
from drafters.io.model_json import check_config_bounds, check_model_json, check_patterns, check_template, tidy
from drafters.io.safe_load import (
    DAMAGED,
    MAX_JSON_BYTES,
    MAX_TOKENIZER_BYTES,
    UNSAFE,
    TensorInfo,
    locate,
    read_header,
    read_json,
    read_text,
)
from drafters.models import quantised
from drafters.models.architecture import CONFIG, attention, model_class, native_model, undeclared
from drafters.models.tying import told_once, write_tied_flag
from drafters.package_error import PackageError

# What is downloaded of a Hub repository: weights as safetensors, JSON, and the texts that tokenizers and licences need.
PATTERNS = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "LICENSE*"]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER, TOKENIZER_CONFIG, GENERATION = "tokenizer.json", "tokenizer_config.json", "generation_config.json"
CHECKED_JSON = (CONFIG, GENERATION, TOKENIZER_CONFIG, "special_tokens_map.json", "chat_template.json")
VOCABULARIES = (TOKENIZER, "*.model", "vocab*", "*.tiktoken", "*.txt")  # of any kind that transformers opens
TEMPLATES = "additional_chat_templates"
READ = (".json", ".jinja", ".model", ".txt", ".tiktoken")  # what transformers may open of a folder beside its weights


def check_model_folder(source: Source, packaged: bool = False, borrowing: bool = False) -> dict[str, TensorInfo]:
    """Check every file of a model folder that transformers would act on; returns what its weights declare.

    Args:
        packaged: the folder is a package, which holds no maker's notes.
        borrowing: take a folder that lacks what its target has, with what ``borrowed.json`` declares of it.

    Raises:
        PackageError: a key that reaches for code, a size out of range, weights that are missing, not safetensors,
            malformed, or outside the folder, or that lack what `drafters.models.borrowed` would put in.
    """
    folder, root = source.folder, source.root
    names = sorted(path.name for path in folder.iterdir() if not path.is_dir())
    if CONFIG not in names:
        fix = f"Check the path: a model folder holds {CONFIG}, the tokenizer's files and *.safetensors."
        fix = _gguf_fix(source, names) or fix
        raise PackageError(CONFIG, "file", f"a model folder at {source.id}", f"no {CONFIG}", fix)
    borrowed = read_borrowed(source) if BORROWED in names else None
    if borrowed is not None and not borrowing:
        raise borrowed.missing_target()
    for name in names:
        # transformers would follow an adapter to its base model, and prefer the shards of a distributed checkpoint.
        if name == "adapter_config.json" or name.startswith("shard-"):
            fix = "Merge it into a plain model and save that with save_pretrained."
            raise PackageError(name, "file", "a plain model folder", "an adapter or distributed checkpoint", fix)
        if name.endswith(READ):
            locate(folder, name, root)
    for name, data in _checked_files(source):
        if packaged:
            check_model_json(data, name)
        tidy(data, name, _native(source, name))
        check_template(data.get("chat_template"), name)
    check_config_bounds(read_json(folder, CONFIG, root=root), CONFIG)
    extra = [path.relative_to(folder).as_posix() for path in (folder / TEMPLATES).glob("*.jinja")]
    for name in [name for name in names if name.endswith(".jinja")] + sorted(extra):
        check_template(read_text(folder, name, MAX_JSON_BYTES, root), name)
    lent = {} if borrowed is None else {name: loan.info for name, loan in borrowed.tensors.items()}
    return _check_weights(source, names) | lent


def _checked_files(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in CHECKED_JSON:
        if (source.folder / name).exists():
            yield name, read_json(source.folder, name, MAX_TOKENIZER_BYTES, source.root)


def _native(source: Source, name: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether transformers implements what an object of this file describes; of most files it never asks for code."""
    if name == CONFIG:
        return native_model
    return partial(_native_tokenizer, source) if name == TOKENIZER_CONFIG else lambda part: False


def _native_tokenizer(source: Source, part: Mapping[str, Any]) -> bool:
    kind = part.get("tokenizer_class")
    model_type = read_json(source.folder, CONFIG, root=source.root).get("model_type")
    # Of these types, transformers knows the published class to be wrong and takes its own.
    if not isinstance(kind, str) or model_type in MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS:
        return isinstance(model_type, str) and model_type in TOKENIZER_MAPPING_NAMES
    found = tokenizer_class_from_name(kind)
    return found is not None and found.__module__.startswith("transformers.")


def folder_notes(source: Source, config: PreTrainedConfig) -> tuple[str, ...]:
    """What the makers left in a checked folder that nothing reads, as ``key`` or ``key (file)``; we never write it."""
    notes = []
    for name, data in _checked_files(source):
        found = tidy(data, name, _native(source, name))[1]
        if name == CONFIG:
            found += [key for key in undeclared(config, config.to_dict())[1] if key != "quantization_config"]
        notes += [note if name == CONFIG else f"{note} ({name})" for note in found]
    return tuple(notes)


def _check_weights(source: Source, names: list[str]) -> dict[str, TensorInfo]:
    if WEIGHTS in names:
        return read_header(source.folder, WEIGHTS, source.root)
    if INDEX in names:
        return _check_shards(source)
    others = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".gguf"))]
    fix = "Convert the weights with model.save_pretrained(DIR) in a place where you trust them."
    fix = _gguf_fix(source, names) or fix
    raise PackageError(WEIGHTS, "file", "weights as safetensors", ", ".join(others) or "none", fix)


def _gguf_fix(source: Source, names: list[str]) -> str | None:
    found = next((name for name in names if name.endswith(".gguf")), None)
    return None if found is None else f"Give the file itself instead of its folder: {source.id}/{found}"


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


def open_model(
    source: Source, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, sharded: bool = False
) -> PreTrainedModel:
    """The model of a checked folder in evaluation mode, without gradients.

    A quantised one is taken as it is stored: neither cast nor moved.

    Args:
        sharded: let accelerate spread the layers over all accelerators (``device_map="auto"``).

    Raises:
        PackageError: weights that do not fill the model; transformers alone would go on with random ones. A quantised
            one whose library is missing.
    """
    packed = quantised.method(config) is not None
    if packed:
        quantised.check_target(config, device)
    options: dict[str, Any] = {"device_map": "auto"} if sharded else {"device_map": {"": device}} if packed else {}
    with quiet(), told_once():
        model, report = model_class(config).from_pretrained(
            source.folder,
            config=config,
            dtype="auto" if packed else dtype,
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
    if (generation := open_generation_config(source)) is not None:
        model.generation_config = generation
    if options:
        return model
    write_tied_flag(model, source.id)
    return model.to(device)


def open_generation_config(source: Source) -> GenerationConfig | None:
    """The generation config of a checked folder, without its maker's notes; None where it has none.

    Raises PackageError for values that transformers refuses.
    """
    if not (source.folder / GENERATION).exists():
        return None
    data, _ = tidy(read_json(source.folder, GENERATION, root=source.root), GENERATION)
    try:
        return GenerationConfig.from_dict(data)
    except Exception as error:  # it raises what its checks happen to raise
        fix = f"Correct {GENERATION}, or remove it: the end of a text then comes from {CONFIG}."
        raise PackageError(GENERATION, "file", "settings that transformers accepts", str(error), fix) from error


def open_tokenizer(source: Source, fix: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checked folder.

    Raises:
        PackageError: none there, or one that transformers cannot build without the author's code.
    """
    folder, settings = source.folder, {}
    if not any(any(folder.glob(pattern)) for pattern in VOCABULARIES):
        raise PackageError(TOKENIZER, "file", f"a tokenizer beside {CONFIG}", f"no {TOKENIZER}", fix)
    if (folder / TOKENIZER).exists():
        check_patterns(read_json(folder, TOKENIZER, MAX_TOKENIZER_BYTES, source.root))
    if (folder / TOKENIZER_CONFIG).exists():
        settings = read_json(folder, TOKENIZER_CONFIG, MAX_TOKENIZER_BYTES, source.root)
    try:
        # Where the maker's files lay is a note; transformers would open a path that it does not replace itself.
        paths = {key: None for key in settings if key.endswith("_file")}
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **paths)
    except BaseException as error:
        # A panic inside tokenizers derives from BaseException alone.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        got = f"{type(error).__name__}: {error}"
        raise PackageError(TOKENIZER, "file", "a tokenizer that transformers can load", got, fix) from error


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
