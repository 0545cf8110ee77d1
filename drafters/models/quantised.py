"""Targets whose weights are stored in fewer bits: which kinds are opened, and what has to be installed for each."""

import copy
import importlib.util
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.quantizers.auto import AutoHfQuantizer

from drafters.models.architecture import CONFIG
from drafters.package_error import PackageError

# Method, as a config names it -> the packages that transformers opens it with.
PACKAGES = {
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "awq": ("gptqmodel", "accelerate"),
    "gptq": ("gptqmodel", "optimum", "accelerate"),
    "compressed-tensors": ("compressed-tensors", "accelerate"),
    "fp8": ("accelerate",),
    "mxfp8": ("accelerate",),
    "fbgemm_fp8": ("fbgemm-gpu", "accelerate"),
    "mxfp4": ("accelerate",),
}
FIELD = "quantization_config.quant_method"


def method(config: PreTrainedConfig) -> str | None:
    """How a model's weights are quantised, as its config says; None where they are not."""
    settings = _settings(config)
    if settings is None:
        return None
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return "bitsandbytes"
    return str(settings.get("quant_method"))


def check_drafter(config: PreTrainedConfig) -> None:
    """Raise PackageError for a quantised drafter: rows of packed weights cannot be cut out."""
    if (found := method(config)) is not None:
        fix = "Give the drafter's unquantised weights with pair.drafter=DIR; its head is cut row by row."
        raise PackageError(CONFIG, "quantization_config", "an unquantised drafter", found, fix)


def check_target(config: PreTrainedConfig, device: torch.device) -> None:
    """Raise PackageError unless what opens a quantised target is installed and works on the device."""
    found = method(config)
    if found is None:
        return
    if found not in PACKAGES:
        fix = "Choose another quantisation of this target, or its unquantised weights."
        raise PackageError(CONFIG, FIELD, f"one of {', '.join(PACKAGES)}", found, fix)
    needed = PACKAGES[found]
    if missing := [name for name in needed if importlib.util.find_spec(name.replace("-", "_")) is None]:
        fix = f"pip install {' '.join(missing)}  # or give an unquantised target"
        raise PackageError(CONFIG, FIELD, f"{' and '.join(needed)} to open {found} models", f"no {missing[0]}", fix)
    try:
        quantiser = AutoHfQuantizer.from_config(copy.deepcopy(_settings(config)), pre_quantized=True)
        quantiser.validate_environment(device_map={"": device}, weights_only=True)
    except Exception as error:  # each method raises what it likes
        fix = "Choose another device or another quantisation of this target, or its unquantised weights."
        raise PackageError(CONFIG, FIELD, f"{found} on {device.type}", str(error), fix) from error


def _settings(config: PreTrainedConfig) -> dict[str, Any] | None:
    for part in (config, config.get_text_config()):
        found = getattr(part, "quantization_config", None)
        if found:
            return dict(found) if isinstance(found, dict) else dict(found.to_dict())
    return None
