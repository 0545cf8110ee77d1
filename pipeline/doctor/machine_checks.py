"""Checks of ``make doctor`` that need no model: versions, device, disk, tokens, the losslessness certificate."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from omegaconf import DictConfig

from drafters.errors import DraftersError
from pipeline.doctor.finding import Finding, fail, ok, option, warn

MIN_PYTHON = (3, 11)
NEED_DISK = 4e9  # bytes below runs_dir: counts, shards and packages of a 7B pair's drafter
WRITE_ROLES = ("write", "admin")


def machine_findings(cfg: DictConfig | None) -> Iterator[Finding]:
    """Everything about this machine; without a configuration, what does not need one."""
    yield python()
    yield from packages()
    if cfg is not None:
        yield device(cfg)
        yield disk(Path(cfg.runs_dir))
        yield certificate(cfg.runs_dir)
    yield token()


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter is new enough."""
    shown = ".".join(map(str, version))
    if version[:2] < MIN_PYTHON:
        return fail("python", f"expected 3.11 or newer, got {shown}", "make setup PYTHON=python3.12")
    return ok("python", f"{shown} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")


def packages() -> Iterator[Finding]:
    """Every requirement of the installed distribution is met, including the versions it refuses."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("drafters") or []
    except metadata.PackageNotFoundError:
        yield fail("packages", "drafters is not installed here", "make setup")
        return
    bad = 0
    for line in lines:
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found == "none" or not need.specifier.contains(found, prereleases=True):
            bad += 1
            yield fail(
                "packages", f"{need.name}: expected {need.specifier or 'any version'}, got {found}", "make setup"
            )
    if not bad:
        shown = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "huggingface_hub"))
        yield ok("packages", f"all in their ranges ({shown})")


def device(cfg: DictConfig) -> Finding:
    """The device and dtype exist here."""
    from drafters.models.devices import choose_device, choose_dtype
    from pipeline.runner.content_key import device_name

    try:
        where = choose_device(cfg.device)
        dtype = choose_dtype(cfg.dtype, where)
    except DraftersError as error:
        return fail("device", str(error), option("device=auto dtype=auto"))
    return ok("device", f"{where.type} ({device_name(where.type)}), {str(dtype).removeprefix('torch.')}")


def disk(runs: Path, need: float = NEED_DISK) -> Finding:
    """``runs_dir`` can be written and has room."""
    folder = next(parent for parent in (runs, *runs.absolute().parents) if parent.exists())
    if not os.access(folder, os.W_OK):
        return fail("disk", f"{runs}: may not be written", option("runs_dir=DIR"))
    free = shutil.disk_usage(folder).free
    if free < need:
        text = f"{runs}: {free / 1e9:.1f} GB free, expected {need / 1e9:.0f} GB for counts, shards and packages"
        return warn("disk", text, option("runs_dir=DIR") + "  # on a larger disk")
    return ok("disk", f"{free / 1e9:.1f} GB free for {runs}")


def certificate(runs_dir: str) -> Finding:
    """A certificate of losslessness was given to exactly this code."""
    from eval.lossless.certificate import read_certificate

    found = read_certificate(runs_dir)
    if found is None:
        return warn("certificate", "none for exactly this code; publishing needs one", "make lossless")
    return ok("certificate", f"{len(found['samplers'])} samplers, for this code")


def token() -> Finding:
    """A Hub token that may write; only publishing needs one. Its value is shown nowhere."""
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        return warn("hub token", "none; publishing and gated models need one", "hf auth login  # or set HF_TOKEN")
    try:
        said = HfApi().whoami()
    except Exception as error:  # no network, a revoked token, a proxy: the client has no common base for them
        text = f"could not be checked ({type(error).__name__})"
        return warn("hub token", text, "hf auth whoami  # once the network is there")
    access = said.get("auth", {}).get("accessToken", {})
    role = access.get("role", "?")
    if role not in WRITE_ROLES and role != "fineGrained":
        text = f"{said.get('name')}: role {role}, publishing needs write"
        return warn("hub token", text, "hf auth login  # with a token that may write")
    return ok("hub token", f"{said.get('name')}: role {role}")
