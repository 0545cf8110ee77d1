"""What a measurement depends on besides code and data: part of the content key of stages that measure."""

from __future__ import annotations

import platform
from pathlib import Path

from omegaconf import DictConfig

from drafters.io.manifest import versions


def describe(cfg: DictConfig, threads: int) -> dict[str, str | int]:
    """Device (with its model), dtype, threads and package versions under ``cfg``. No host names, no paths."""
    device = resolve(cfg.device)
    return {
        "device": device,
        "device_name": device_name(device),
        "dtype": cfg.dtype,  # "auto" is a function of the device and the model, which are in the key
        "threads": threads,
        **versions(),
    }


def resolve(device: str) -> str:
    """``auto`` as the device that will be used: cuda, else mps, else cpu."""
    if device != "auto":
        return device
    import torch  # here: it takes seconds

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_name(device: str) -> str:
    """Model name of the GPU, or of the CPU as the system gives it."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
