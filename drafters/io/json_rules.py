"""Rules for a package's own JSON files: which keys may stand there, and which values.

Pure functions over parsed objects; `safe_load` has read them. A rule is here because our engine would act on the value:
allocate by it, or index by it.
"""

import re
from collections.abc import Mapping, Set
from typing import Any

from drafters.io.json_fields import is_integer
from drafters.io.model_json import MAX_VOCABULARY
from drafters.package_error import PackageError

DESCRIPTION = "drafters.json"
FORMAT_VERSION = 1
IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
DOMAIN = re.compile(r"\w[\w .,+/():-]{0,99}")
DESCRIPTION_KEYS = {
    "format_version", "name", "foreign", "target", "drafter", "eos", "coverage", "recommended", "generation",
}  # fmt: skip
COMMIT_OR_HASH = re.compile(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}")


def check_token_ids(value: object, vocabulary: int, file: str, field: str) -> list[int]:
    """A token id or a list of them as a list without repeats, each in ``[0, vocabulary)``. Raises PackageError."""
    ids = value if isinstance(value, list | tuple) else [value]
    if not all(is_integer(item, 0, vocabulary - 1) for item in ids):
        fix = "Correct the token ids in this file, or use the files that belong to this model."
        raise PackageError(file, field, f"token ids from 0 to {vocabulary - 1}", value, fix)
    return list(dict.fromkeys(ids))


def check_description(data: Mapping[str, Any]) -> None:
    """The whole of ``drafters.json``: see `drafters.package.writer.describe` for the meaning of each field.

    Raises PackageError for a missing or unknown key or a value out of range.
    """
    version = data.get("format_version")
    if not is_integer(version, 1, float("inf")):
        raise _bad("format_version", "a whole number from 1", version)
    if version != FORMAT_VERSION:
        fix = "Upgrade drafters: pip install --upgrade drafters."
        raise PackageError(DESCRIPTION, "format_version", f"at most {FORMAT_VERSION}", version, fix)
    _keys(data, DESCRIPTION_KEYS, "", optional={"least_covered"})
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
            if not is_integer(model[size], 1, MAX_VOCABULARY):
                raise _bad(f"{role}.{size}", f"an integer from 1 to {MAX_VOCABULARY:,}", model[size])
    if data["drafter"]["kept"] > data["drafter"]["vocabulary"]:
        raise _bad("drafter.kept", f"at most {data['drafter']['vocabulary']}", data["drafter"]["kept"])
    if not isinstance(data["eos"], list):
        raise _bad("eos", "a list of target token ids", data["eos"])
    check_token_ids(data["eos"], data["target"]["vocabulary"], DESCRIPTION, "eos")
    if data["coverage"] is not None:
        check_number(data["coverage"], 0, 1, DESCRIPTION, "coverage")
    if data.get("least_covered") is not None:
        least = _object(data["least_covered"], "least_covered")
        _keys(least, {"domain", "coverage"}, "least_covered.")
        _match(least["domain"], DOMAIN, "least_covered.domain")
        check_number(least["coverage"], 0, 1, DESCRIPTION, "least_covered.coverage")
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
        if not is_integer(generation[field], low, high):
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
    if not isinstance(hidden, list) or len(hidden) > 8 or not all(is_integer(width, 1, 1 << 14) for width in hidden):
        raise _bad("hidden", "at most 8 widths from 1 to 16,384", hidden, file)
    if not is_integer(data["outputs"], 1, 8):
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


def _bad(field: str, expected: str, got: object, file: str = DESCRIPTION) -> PackageError:
    return PackageError(file, field, expected, got, "Build the package again with `python -m pipeline stage=package`.")


def _keys(
    data: Mapping[str, Any],
    required: set[str],
    prefix: str,
    file: str = DESCRIPTION,
    optional: Set[str] = frozenset(),
) -> None:
    if missing := sorted(required - set(data)):
        raise _bad(prefix + missing[0], "this key", "none", file)
    if unknown := sorted(set(data) - required - optional):
        raise _bad(prefix + unknown[0], f"only the keys {', '.join(sorted(required))}", "an unknown key", file)


def _object(value: object, field: str, file: str = DESCRIPTION) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(field, "an object", value, file)
    return value


def _match(value: object, pattern: re.Pattern[str], field: str, file: str = DESCRIPTION) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _bad(field, f"text that matches {pattern.pattern}", value, file)
