"""Rules for the JSON files of a model folder and of a package: which keys may stand there, and which values.

Pure functions over parsed objects; `safe_load` has read them. A rule is here because a reader further on
(transformers, our engine) would act on the value: allocate by it, index by it, or fetch code by it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from drafters.package_error import PackageError

DESCRIPTION = "drafters.json"
FORMAT_VERSION = 1
IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
MAX_VOCABULARY = 1 << 22
DESCRIPTION_KEYS = {
    "format_version", "name", "foreign", "target", "drafter", "eos", "coverage", "recommended", "generation",
}  # fmt: skip
COMMIT_OR_HASH = re.compile(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}")

# Keys starting with "_" steer transformers' internals (CVE-2026-4372 fetched code through one of them). These carry
# nothing.
HARMLESS = frozenset({
    "_name_or_path", "_commit_hash", "_from_model_config", "_attn_implementation_autoset", "_sliding_window_pattern",
    "_diffusers_version",
})  # fmt: skip
# Each of these makes transformers load code, kernels or files chosen by the folder's author.
FORBIDDEN = frozenset({
    "auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "transformers_weights", "use_kernels",
    "kernel_config", "fusion_config", "distributed_config", "adapter_kwargs",
})  # fmt: skip
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
BOUNDS = {
    "vocab_size": (1, MAX_VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "head_dim", "word_embed_proj_dim"), (1, 1 << 17)),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim"), (1, 1 << 20)),
    **dict.fromkeys(("num_hidden_layers", "n_layer"), (1, 512)),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head"), (1, 1 << 12)),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), (1, 1 << 28)),
}
UNSAFE = "Do not use this folder: remove the key yourself only if you know what it is for."


def check_model_json(data: Mapping[str, Any], file: str) -> None:
    """Refuse keys by which a ``config.json``, ``generation_config.json`` or ``tokenizer_config.json`` reaches for code.

    Applies at every depth, since composite configs hold others. Raises PackageError.
    """
    for path, key, value in _walk(data):
        if key in FORBIDDEN or (key.startswith("_") and key not in HARMLESS):
            # {"__type": "AddedToken"} is how transformers 4 wrote special tokens; an empty auto_map maps nothing.
            if (key == "__type" and value == "AddedToken") or value in (None, False, {}, []):
                continue
            raise PackageError(file, path, "no key that steers how code or weights are found", "this key", UNSAFE)
        if key in ("attn_implementation", "experts_implementation") and isinstance(value, str) and "/" in value:
            raise PackageError(file, path, "a built-in implementation", value, UNSAFE)
        if key == "attn_implementation" and value is not None and value not in ATTENTION:
            raise PackageError(file, path, f"one of {', '.join(ATTENTION)}", value, UNSAFE)


def check_config_bounds(config: Mapping[str, Any], file: str) -> None:
    """Sizes in a model's config lie in sane ranges, before anything is allocated by them. Raises PackageError."""
    for path, key, value in _walk(config):
        if key in BOUNDS and value is not None:
            low, high = BOUNDS[key]
            if not _is_int(value, low, high):
                raise PackageError(file, path, f"an integer from {low} to {high:,}", value, UNSAFE)


def check_known_keys(data: Mapping[str, Any], known: set[str], file: str) -> None:
    """Every top-level key is in ``known``. Raises PackageError naming the first other one."""
    if unknown := sorted(set(data) - known):
        raise PackageError(file, unknown[0], "only keys that this model class defines", "an unknown key", UNSAFE)


def check_token_ids(value: object, vocabulary: int, file: str, field: str) -> list[int]:
    """A token id or a list of them as a list without repeats, each in ``[0, vocabulary)``. Raises PackageError."""
    ids = value if isinstance(value, list | tuple) else [value]
    if not all(_is_int(item, 0, vocabulary - 1) for item in ids):
        fix = "Correct the token ids in this file, or use the files that belong to this model."
        raise PackageError(file, field, f"token ids from 0 to {vocabulary - 1}", value, fix)
    return list(dict.fromkeys(ids))


def check_description(data: Mapping[str, Any]) -> None:
    """The whole of ``drafters.json``: see `drafters.package.writer.describe` for the meaning of each field.

    Raises PackageError for a missing or unknown key or a value out of range.
    """
    version = data.get("format_version")
    if not _is_int(version, 1):
        raise _bad("format_version", "a whole number from 1", version)
    if version != FORMAT_VERSION:
        fix = "Upgrade drafters: pip install --upgrade drafters."
        raise PackageError(DESCRIPTION, "format_version", f"at most {FORMAT_VERSION}", version, fix)
    _keys(data, DESCRIPTION_KEYS, "")
    _match(data["name"], NAME, "name")
    if not isinstance(data["foreign"], bool):
        raise _bad("foreign", "true or false", data["foreign"])
    for role, sizes in (("target", ("vocabulary",)), ("drafter", ("vocabulary", "kept"))):
        model = _object(data[role], role)
        _keys(model, {"id", "revision", "licence", *sizes}, f"{role}.")
        _match(model["id"], NAME, f"{role}.id")
        for field, pattern in (("revision", COMMIT_OR_HASH), ("licence", NAME)):
            if model[field] is not None:
                _match(model[field], pattern, f"{role}.{field}")
        for size in sizes:
            if not _is_int(model[size], 1, MAX_VOCABULARY):
                raise _bad(f"{role}.{size}", f"an integer from 1 to {MAX_VOCABULARY:,}", model[size])
    if data["drafter"]["kept"] > data["drafter"]["vocabulary"]:
        raise _bad("drafter.kept", f"at most {data['drafter']['vocabulary']}", data["drafter"]["kept"])
    if not isinstance(data["eos"], list):
        raise _bad("eos", "a list of target token ids", data["eos"])
    check_token_ids(data["eos"], data["target"]["vocabulary"], DESCRIPTION, "eos")
    if data["coverage"] is not None:
        check_number(data["coverage"], 0, 1, DESCRIPTION, "coverage")
    _check_defaults(data)


def _check_defaults(data: Mapping[str, Any]) -> None:
    recommended = _object(data["recommended"], "recommended")
    _keys(recommended, {"sampler", "stop"}, "recommended.")
    for field, value in recommended.items():
        _match(value, IDENTIFIER, f"recommended.{field}")
    generation = _object(data["generation"], "generation")
    _keys(generation, {"temperature", "top_k", "top_p", "lookahead"}, "generation.")
    check_number(generation["temperature"], 0, 100, DESCRIPTION, "generation.temperature")
    check_number(generation["top_p"], 0, 1, DESCRIPTION, "generation.top_p")
    for field, low, high in (("top_k", 0, MAX_VOCABULARY), ("lookahead", 0, 1024)):
        if not _is_int(generation[field], low, high):
            raise _bad(f"generation.{field}", f"an integer from {low} to {high}", generation[field])


def check_number(value: object, low: float, high: float, file: str, field: str) -> None:
    """A finite JSON number in ``[low, high]``. Raises PackageError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise PackageError(file, field, f"a number from {low} to {high}", value, "Build the package again.")


def check_stop_config(data: Mapping[str, Any], file: str = "stop/config.json") -> None:
    """Settings of a trained stop policy: a small feed-forward network over F named features.

    ``features`` names its F inputs in order, ``hidden`` its hidden widths, ``outputs`` its number of scores;
    ``parameters`` holds the policy's own numbers and ``trained_on`` what the classifier is valid for. Raises
    PackageError.
    """
    required = {"name", "features", "hidden", "outputs", "activation", "threshold", "parameters", "trained_on"}
    _keys(data, required, "", file)
    _match(data["name"], IDENTIFIER, "name", file)
    features = data["features"]
    if not isinstance(features, list) or not 1 <= len(features) <= 4096 or len({*map(str, features)}) != len(features):
        raise _bad("features", "1 to 4096 different names", features, file)
    for index, feature in enumerate(features):
        _match(feature, IDENTIFIER, f"features[{index}]", file)
    hidden = data["hidden"]
    if not isinstance(hidden, list) or len(hidden) > 8 or not all(_is_int(width, 1, 1 << 14) for width in hidden):
        raise _bad("hidden", "at most 8 widths from 1 to 16,384", hidden, file)
    if not _is_int(data["outputs"], 1, 8):
        raise _bad("outputs", "an integer from 1 to 8", data["outputs"], file)
    if data["activation"] not in ("relu", "gelu", "silu", "tanh"):
        raise _bad("activation", "relu, gelu, silu or tanh", data["activation"], file)
    check_number(data["threshold"], 0, 1, file, "threshold")
    for field in ("parameters", "trained_on"):
        for key, value in _object(data[field], field, file).items():
            _match(key, IDENTIFIER, f"{field} key", file)
            if field == "trained_on" and isinstance(value, str):
                _match(value, NAME, f"{field}.{key}", file)
            else:
                check_number(value, -1e9, 1e9, file, f"{field}.{key}")


def check_patterns(tokenizer: Mapping[str, Any], file: str = "tokenizer.json") -> None:
    """Refuse regular expressions that repeat a repetition, such as ``(a+)+``: they can hang a tokenizer on short texts.

    Raises PackageError.
    """
    for path, key, value in _walk(tokenizer):
        if key == "Regex" and isinstance(value, str) and _repeats_a_repetition(value):
            raise PackageError(file, path, "a pattern that cannot backtrack without end", value, UNSAFE)


def _repeats_a_repetition(pattern: str) -> bool:
    """True if an unbounded quantifier follows a group that holds another one. Escapes and classes are skipped over."""
    bare = re.sub(r"\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]", "c", re.sub(r"\\[pP]\{\^?\w+\}|\\.", "c", pattern))
    stack, last_group = [False], False
    for position, character in enumerate(bare):
        unbounded = character in "+*" or re.match(r"\{\d*,\}", bare[position:]) is not None
        if unbounded and position and bare[position - 1] == ")" and last_group:
            return True
        if unbounded:
            stack[-1] = True
        elif character == "(":
            stack.append(False)
        elif character == ")" and len(stack) > 1:
            last_group = stack.pop()
            stack[-1] |= last_group
    return False


def _walk(data: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            here = f"{path}.{key}" if path else key
            yield here, key, value
            yield from _walk(value, here)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            if isinstance(value, dict | list):
                yield from _walk(value, f"{path}[{index}]")


def _is_int(value: object, low: int = 0, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _bad(field: str, expected: str, got: object, file: str = DESCRIPTION) -> PackageError:
    return PackageError(file, field, expected, got, "Build the package again with `python -m pipeline stage=package`.")


def _keys(data: Mapping[str, Any], required: set[str], prefix: str, file: str = DESCRIPTION) -> None:
    if missing := sorted(required - set(data)):
        raise _bad(prefix + missing[0], "this key", "none", file)
    if unknown := sorted(set(data) - required):
        raise _bad(prefix + unknown[0], f"only the keys {', '.join(sorted(required))}", "an unknown key", file)


def _object(value: object, field: str, file: str = DESCRIPTION) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(field, "an object", value, file)
    return value


def _match(value: object, pattern: re.Pattern[str], field: str, file: str = DESCRIPTION) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _bad(field, f"text that matches {pattern.pattern}", value, file)
