"""Where models run and in which numbers: ``auto`` resolved, impossible choices refused."""

import importlib.util

import torch

from drafters.errors import DraftersError

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Room that weights must leave on one accelerator for the cache, the logits and the drafter.
FILL = 0.8


class DeviceError(DraftersError):
    """A device or dtype that does not exist, or that this machine does not have."""


def choose_device(name: str) -> torch.device:
    """``auto`` is cuda, else mps, else cpu. Raises DeviceError for one that is unknown or absent."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    if name not in present:
        raise DeviceError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    if not present[name]:
        raise DeviceError(f"device={name} was asked for, but torch {torch.__version__} sees none here: use device=auto")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 on cuda and fp32 elsewhere; ``fast`` is bf16 also on a CPU that multiplies in it.

    There a forward reads half the bytes, and one of a few tokens takes hardly longer than one of a single token, which is what
    verification asks for. Raises DeviceError for an unknown name.
    """
    if name == "fast" and device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return torch.bfloat16 if found.get("avx512_bf16") or found.get("amx_bf16") else torch.float32
    if name in ("auto", "fast"):
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise DeviceError(f"dtype must be auto, fast, {' or '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


def must_shard(need: int, device: torch.device) -> bool:
    """Whether a model whose weights take ``need`` bytes is too big for one accelerator and has to be spread over all of them.

    Raises DeviceError when it is and accelerate, which does the spreading, is not installed.
    """
    if device.type != "cuda":
        return False
    free = free_bytes(device)
    if need <= FILL * free:
        return False
    if importlib.util.find_spec("accelerate") is None:
        raise DeviceError(
            f"the target needs {need / 2**30:.1f} GiB, the first GPU has {free / 2**30:.1f} GiB free, and spreading it "
            "needs accelerate, which is not installed: pip install accelerate, or device=cpu, or a smaller target"
        )
    return True


def free_bytes(device: torch.device) -> int:
    """Free memory of a CUDA device in bytes."""
    return torch.cuda.mem_get_info(device)[0]
