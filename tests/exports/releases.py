"""The readers of exports as they are released: their wheels' Python files in a folder of their own, never installed.

A reader's program runs in a process of its own, with the reader and its transformers before everything else on the path, and
stand-ins (``readers/sitecustomize.py``) for what it imports for kernels or servers. What cannot be had is skipped by name.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOM = Path(os.environ.get("DRAFTERS_READERS", HERE.parents[1] / "build" / "readers")).resolve()
LLAMA_CPP = "llama-cpp-python==0.3.36"  # llama.cpp of October 2026 lies inside its source
BINARIES = ("llama-speculative-simple", "llama-completion")
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_OPENMP=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
)


@dataclass(frozen=True)
class Reader:
    """Wheels to unpack, the reader's own first; packages to install beside them; beginnings of modules to stand in for."""

    wheels: tuple[str, ...]
    packages: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.wheels[0]


SHARED = (
    "cbor2", "orjson", "msgspec", "psutil", "cachetools", "gguf", "sentencepiece", "pybase64", "cloudpickle", "py-cpuinfo", "pyzmq",
    "blake3", "openai", "jiter", "distro", "sniffio", "fastapi", "starlette", "prometheus_client", "uvloop", "openai-harmony",
    "annotated-doc", "prometheus-fastapi-instrumentator", "partial-json-parser", "einops",
)  # fmt: skip
READERS = {
    "transformers-4": Reader(("transformers==4.57.6",), ("tokenizers==0.22.1", "huggingface_hub==0.36.0")),
    "transformers-5.19": Reader(("transformers==5.19.0",)),
    "transformers-5.24": Reader(("transformers==5.24.0",)),
    "vllm": Reader(
        ("vllm==0.33.0", "transformers==5.19.0"),
        SHARED,
        ("llguidance", "xgrammar", "compressed_tensors", "triton_kernels", "vllm._"),
    ),
    "sglang": Reader(
        ("sglang==0.5.23", "transformers==5.19.0"),
        SHARED,
        ("triton", "IPython", "torchvision", "tvm_ffi", "compressed_tensors"),
    ),
    "speculators": Reader(
        ("speculators==0.9.0", "transformers==5.19.0"), SHARED, ("loguru", "pydantic_settings", "hs_connectors")
    ),
}


def run(reader: Reader, program: str, *arguments: object) -> dict:
    """The JSON object that a program of ``readers/`` prints last, run with the reader's code. Skips what cannot be had."""
    path = [HERE / "readers", *map(unpacked, reader.wheels), *([installed(reader.packages)] if reader.packages else [])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, path)), "STUBS": ",".join(reader.stand_ins), "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CACHE_ROOT": str(ROOM / "cache"),
    }  # fmt: skip
    command = [sys.executable, str(HERE / "readers" / program), *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, cwd=tempfile.gettempdir()
    )
    assert done.returncode == 0, f"{reader.name}: {program} failed\n{done.stdout[-1500:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def unpacked(wheel: str) -> Path:
    """The folder of a wheel's files but its libraries, fetched once."""
    folder = ROOM / wheel
    if not (folder / "done").exists():
        with zipfile.ZipFile(fetched(wheel)) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if not name.endswith(".so")])
        (folder / "done").touch()
    return folder


def installed(packages: tuple[str, ...]) -> Path:
    """A folder of small packages that readers import at the top, without what those need in turn."""
    folder = ROOM / f"packages-{'-'.join(packages)[:60]}"
    if not (folder / "done").exists():
        pip("install", "--target", str(folder), *packages)
        (folder / "done").touch()
    return folder


def fetched(requirement: str) -> Path:
    """The one file that pip downloads for a requirement."""
    folder = ROOM / "files" / requirement
    if not (folder.is_dir() and any(folder.iterdir())):
        pip("download", "--dest", str(folder), requirement)
    return next(folder.iterdir())


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", arguments[0], "-q", "--no-deps", *arguments[1:]], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"{arguments[-1]} cannot be had here: {done.stderr.strip().splitlines()[-1][:200]}")


def llama_cpp() -> Path:
    """Return llama.cpp's source with its programs built, ten minutes of work the first time; LLAMA_CPP names one that is there."""
    if given := os.environ.get("LLAMA_CPP"):
        return Path(given)
    folder = ROOM / "llama.cpp"
    if not folder.exists():
        with tarfile.open(fetched(LLAMA_CPP)) as archive:
            archive.extractall(ROOM / "source", filter="data")
        folder.symlink_to(next((ROOM / "source").glob("*/vendor/llama.cpp")))
    if not all((folder / "build" / "bin" / name).exists() for name in BINARIES):
        try:
            subprocess.run(["cmake", "-S", ".", "-B", "build", *FLAGS], cwd=folder, check=True, capture_output=True)
            build = ["cmake", "--build", "build", "--parallel", "2", "--target", *BINARIES]
            subprocess.run(build, cwd=folder, check=True, capture_output=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"llama.cpp cannot be built here: {error}")
    return folder
