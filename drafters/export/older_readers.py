"""Keys of transformers 4 beside those of 5, so that one folder opens under both, and no notes of how it was opened.

transformers 5 keeps rotary settings in ``rope_parameters``, calls every fast tokenizer ``TokenizersBackend`` and lists further
specials as ``extra_special_tokens``; 4.57 knows none of the three: it falls back to a theta of 10,000 without a word, or raises.
5 still reads 4's spelling of each (`RotaryEmbeddingConfigMixin.convert_rope_params_to_dict`, `AutoTokenizer`,
`PreTrainedTokenizerBase._from_pretrained`), and with both spellings present takes the same values from either.
"""

import json
from collections.abc import Mapping
from pathlib import Path

# What transformers notes about how a tokenizer was opened, or where code of its author lies: nothing of the tokenizer itself.
NOTES = (
    "is_local", "local_files_only", "name_or_path", "vocab_file", "merges_file", "tokenizer_file", "_commit_hash", "auto_map",
)  # fmt: skip
FAST = "PreTrainedTokenizerFast"  # 4's name of 5's TokenizersBackend
# Families that 4 gives names of their own: theta, and the share of a head's dimensions that turns (or the local layers' theta)
GPT_NEOX = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
LAYERED = {"modernbert-decoder": ("global_rope_theta", "local_rope_theta")}
PHI3_KEYS = ("short_factor", "long_factor")  # its config class refuses any other key beside the type


def for_older_readers(directory: Path) -> None:
    """Add or respell the keys in ``config.json`` and ``tokenizer_config.json``; a file that needs nothing keeps its bytes."""
    for name, change in (("config.json", with_rope_keys), ("tokenizer_config.json", plain_tokenizer_config)):
        path = directory / name
        if not path.is_file():
            continue
        before = json.loads(path.read_text(encoding="utf-8"))
        if (after := change(before)) != before:
            text = json.dumps(after, indent=2, ensure_ascii=False, sort_keys=True)
            path.write_text(text + "\n", encoding="utf-8")


def with_rope_keys(config: Mapping[str, object]) -> dict[str, object]:
    """A config with 4's rotary keys beside ``rope_parameters``, in its nested configs as well."""
    found = {name: with_rope_keys(value) if isinstance(value, dict) else value for name, value in config.items()}
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return found
    family = str(config.get("model_type"))
    full, local = rope.get("full_attention"), rope.get("sliding_attention")
    if isinstance(full, dict) and isinstance(local, dict):
        names = LAYERED.get(family, ("rope_theta", "rope_local_base_freq"))
        older = {names[0]: full.get("rope_theta"), names[1]: local.get("rope_theta")}
        rope = full
    else:
        renamed = GPT_NEOX if family == "gpt_neox" else {}
        older = {renamed.get(key, key): rope.get(key) for key in ("rope_theta", "partial_rotary_factor")}
    if rope.get("rope_type", "default") != "default":
        older["rope_scaling"] = _scaling(family, rope)
    return found | {name: value for name, value in older.items() if value is not None and name not in config}


def _scaling(family: str, rope: Mapping[str, object]) -> dict[str, object]:
    if family == "phi3":
        return {"type": rope["rope_type"]} | {key: rope[key] for key in PHI3_KEYS if key in rope}
    return {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}


def plain_tokenizer_config(config: Mapping[str, object]) -> dict[str, object]:
    """A tokenizer config in the words that 4 and 5 share, without NOTES."""
    plain = {name: value for name, value in config.items() if name not in NOTES}
    if plain.get("tokenizer_class") == "TokenizersBackend":
        plain["tokenizer_class"] = FAST
        # The default of 4 has token types, which most models refuse.
        plain.setdefault("model_input_names", ["input_ids", "attention_mask"])
    if isinstance(further := plain.get("extra_special_tokens"), list):
        del plain["extra_special_tokens"]
        plain.setdefault("additional_special_tokens", further)
    if isinstance(named := plain.pop("model_specific_special_tokens", None), dict):
        plain.setdefault("extra_special_tokens", named)  # 4's name for tokens with a role of their own
    return plain
