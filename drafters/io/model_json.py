"""Rules for the JSON files of a model folder: what reaches for code or files is refused, what is a note is left out.

Pure functions over parsed objects; `safe_load` has read them. A key is refused because a reader further on
(transformers, our engine) would act on it: fetch code, open another file, allocate by it. All else that makers leave in
their files is a note: it is dropped before transformers sees it, never written into a package, and named once.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from drafters.io.json_fields import is_integer
from drafters.package_error import PackageError

MAX_VOCABULARY = 1 << 22
MAX_LAYERS = 1 << 12  # entries of a list with one value per layer

# Keys starting with "_" steer transformers' internals (CVE-2026-4372 fetched code through one of them). transformers
# itself writes these two groups, and nothing reads them; the first is in nearly every file and not worth a word.
HARMLESS = frozenset({
    "_name_or_path", "_commit_hash", "_from_model_config", "_attn_implementation_autoset", "_diffusers_version",
})  # fmt: skip
NOTES = frozenset({
    "_model_name_or_path", "_attn_implementation", "_experts_implementation", "_load_in_4bit", "_load_in_8bit",
    "_flash_attn_2_enabled", "_from_auto", "_auto_class", "_pre_quantization_dtype", "_transformers_version",
    "_processor_class", "_tokenizer_class", "_hash",
})  # fmt: skip
IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
# Each of these makes transformers load code, kernels or files chosen by the folder's author.
FORBIDDEN = frozenset({
    "auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "transformers_weights", "use_kernels",
    "kernel_config", "fusion_config", "distributed_config", "adapter_kwargs", "gguf_file", "tokenizer_object",
    "init_inputs", "fast_tokenizer_files",
})  # fmt: skip
# Numbers of the architecture (Gemma 3's, OPT's) that transformers reads under a private name.
PRIVATE = frozenset({"_sliding_window_pattern", "_remove_final_layer_norm"})
# How transformers writes special tokens (4) and infinities (5).
MARKERS = (("__type", "AddedToken"), ("__float__", "Infinity"), ("__float__", "-Infinity"))
BOUNDS = {
    "vocab_size": (1, MAX_VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "head_dim", "word_embed_proj_dim"), (1, 1 << 17)),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim"), (1, 1 << 20)),
    **dict.fromkeys(("num_hidden_layers", "n_layer"), (1, 512)),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head"), (1, 1 << 12)),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), (1, 1 << 28)),
}
# Parts of a composite config that a text model reads; all others may be empty.
TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder", "generator")
UNSAFE = "Do not use this folder: remove the key yourself only if you know what it is for."
FOREIGN_CODE = (
    "transformers itself does not implement this type, and code of a folder is never run: choose another model."
)
# Jinja that names another file, or Python's internals; a chat template needs neither.
REACHING = re.compile(
    r"\{%[-+]?\s*(?:include|import|extends|from)\b|(?:\.\s*|[\[(]\s*['\"])__\w+__|_TemplateReference__context"
)

Native = Callable[
    [Mapping[str, Any]], bool
]  # whether transformers implements what an object with an auto_map describes


def _never(part: Mapping[str, Any]) -> bool:
    return False


def check_model_json(data: Mapping[str, Any], file: str) -> None:
    """Refuse every key of a package's ``config.json`` and the like that `tidy` would refuse or name as a note.

    Applies at every depth, since composite configs hold others. Raises PackageError.
    """
    for path in tidy(data, file)[1]:
        raise _steers(file, path)


def tidy(data: Mapping[str, Any], file: str, native: Native = _never) -> tuple[dict[str, Any], list[str]]:
    """A copy of the file's object without what makers left in it, and the dotted paths of what is worth naming.

    Args:
        native: of the object beside an ``auto_map``: whether transformers implements its type, so that no code of the
            folder would ever be asked for.

    Raises:
        PackageError: a key that steers how code, weights or files are found; it holds at every depth.
    """
    notes: list[str] = []
    return _tidied(data, "", file, native, notes), notes


def _tidied(value: Any, path: str, file: str, native: Native, notes: list[str]) -> Any:
    if isinstance(value, list):
        return [_tidied(item, f"{path}[{index}]", file, native, notes) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    kept = {}
    for key, item in value.items():
        here = f"{path}.{key}" if path else key
        if _is_meant(key, item):
            kept[key] = _tidied(item, here, file, native, notes)
        elif item in (None, False, {}, []) or key in HARMLESS:
            continue
        elif _is_note(key, item) or (key == "auto_map" and native(value)):
            notes.append(here)
        else:
            raise _steers(file, here, value if key == "auto_map" else {})
    return kept


def _is_meant(key: str, value: object) -> bool:
    """Whether a key belongs to the model or tokenizer and steers nothing."""
    if key in PRIVATE:
        return isinstance(value, bool | int)
    return not (key.startswith("_") or key in FORBIDDEN or key in IMPLEMENTATIONS) or (key, value) in MARKERS


def _is_note(key: str, value: object) -> bool:
    """Whether a key carries nothing that anyone acts on: one that transformers writes, or a plain number."""
    if key.removeprefix("_") in IMPLEMENTATIONS:  # a name with a slash is a repository of kernels
        chosen = value.values() if isinstance(value, Mapping) else [value]
        return all(item is None or (isinstance(item, str) and re.fullmatch(r"\w+", item)) for item in chosen)
    plain = isinstance(value, bool | int | float)
    if key in NOTES:
        return plain or isinstance(value, str)
    return plain and re.fullmatch(r"_[A-Za-z0-9](\w*[A-Za-z0-9])?", key) is not None and not key.endswith("_internal")


def _steers(file: str, path: str, beside: Mapping[str, Any] | None = None) -> PackageError:
    """``beside``: of an auto_map, the object that it stands in."""
    expected = "no key that steers how code or weights are found"
    for named in ("model_type", "tokenizer_class"):
        if isinstance(kind := (beside or {}).get(named), str):
            return PackageError(file, path, expected, f"this key, for {named} {kind}", FOREIGN_CODE)
    return PackageError(file, path, expected, "this key", UNSAFE)


def check_config_bounds(config: Mapping[str, Any], file: str) -> None:
    """Sizes in a model's config lie in sane ranges, before anything is allocated by them. Raises PackageError.

    A list with one size for each layer is checked entry by entry. Zero is a size there, and in parts no text model reads.
    """
    for path, key, value in walk(config):
        if key not in BOUNDS or value is None:
            continue
        low, high = BOUNDS[key]
        parts = re.findall(r"\w+", path)[:-1]
        if isinstance(value, list) or any(part.endswith("_config") and part not in TEXT_PARTS for part in parts):
            low = 0
        sizes = value if isinstance(value, list) else [value]
        if len(sizes) > MAX_LAYERS or not all(size is None or is_integer(size, low, high) for size in sizes):
            raise PackageError(file, path, f"an integer from {low} to {high:,}", value, UNSAFE)


def check_known_keys(data: Mapping[str, Any], known: set[str], file: str) -> None:
    """Every top-level key is in ``known``. Raises PackageError naming the first other one."""
    if unknown := sorted(set(data) - known):
        raise PackageError(file, unknown[0], "only keys that this model class defines", "an unknown key", UNSAFE)


def check_template(template: object, file: str, path: str = "chat_template") -> None:
    """Refuse a chat template, or any of a collection of them, that names other files or Python's internals.

    transformers renders templates in a sandbox without files; this holds for readers that do not. Raises PackageError.
    """
    if isinstance(template, str):
        if found := REACHING.search(template):
            raise PackageError(file, path, "a template that stays within its conversation", found[0], UNSAFE)
        return
    items = (
        template.items() if isinstance(template, Mapping) else enumerate(template if isinstance(template, list) else ())
    )
    for key, item in items:
        check_template(item, file, f"{path}.{key}")


def check_patterns(tokenizer: Mapping[str, Any], file: str = "tokenizer.json") -> None:
    """Refuse regular expressions that repeat a repetition, such as ``(a+)+``: they can hang a tokenizer on short texts.

    Raises PackageError.
    """
    for path, key, value in walk(tokenizer):
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


def walk(data: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every key of a JSON value at any depth, as (dotted path, key, value)."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            here = f"{path}.{key}" if path else key
            yield here, key, value
            yield from walk(value, here)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            if isinstance(value, dict | list):
                yield from walk(value, f"{path}[{index}]")
