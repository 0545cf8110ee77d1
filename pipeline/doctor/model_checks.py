"""Checks of ``make doctor`` about the two models: there, pinned, safe to load, of one kind, small enough, licensed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from drafters.errors import DraftersError
from drafters.io.hub import HUB_ID, REVISION
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from pipeline.doctor.asked_checks import sampler_finding
from pipeline.doctor.finding import Finding, fail, ok, option, warn
from pipeline.doctor.folder_checks import folder_findings, pair_findings

ROLES = ("target", "drafter")
OVERHEAD = 1.3  # caches, logits and the interpreter, as a factor on the weights


def model_findings(cfg: DictConfig, roles: Sequence[str] = ROLES, fetch: bool = False) -> Iterator[Finding]:
    """Both models, then the two together.

    Args:
        fetch: download a model that is on the Hub and not yet here; else it is asked about.
    """
    checkpoints: dict[str, Checkpoint] = {}
    for role in roles:
        where = "" if OmegaConf.is_missing(cfg.pair, role) else str(cfg.pair[role])
        revision = cfg.pair.get(f"{role}_revision")
        if not where:
            yield fail(role, "not set", option(f"pair.{role}=DIR"))
        elif _is_remote(where) and not fetch:
            yield _remote(role, where, revision)
            if revision and REVISION.fullmatch(revision) and _cached(where, revision):
                yield from _opened(role, cfg, checkpoints)
        else:
            yield from _opened(role, cfg, checkpoints)
    for role, found in checkpoints.items():
        yield from folder_findings(role, found, cfg.device)
    if len(checkpoints) == len(ROLES):
        yield _tokenizers(cfg, checkpoints)
        yield from pair_findings(checkpoints["target"], checkpoints["drafter"])
        yield from sampler_finding(cfg, checkpoints["target"], checkpoints["drafter"])
        yield _memory(cfg, checkpoints)
    if "drafter" in checkpoints:
        yield _licence(cfg, checkpoints["drafter"])


def _is_remote(where: str) -> bool:
    local = Path(where).expanduser().exists() or where.startswith(("drafters/", "runs/", ".", "/", "~"))
    return not local and HUB_ID.fullmatch(where) is not None


def _remote(role: str, where: str, revision: str | None) -> Finding:
    """A Hub id is pinned; where the network answers: the repository is there, and how big it is."""
    fix = f"{option(f'pair.{role}_revision=COMMIT')}  # from its page on the Hub; or a folder: pair.{role}=DIR"
    if revision is None or not REVISION.fullmatch(revision):
        return fail(role, f"{where}: expected a revision of 40 hex digits, got {revision or 'none'}", fix)
    if _cached(where, revision):
        return ok(role, f"{where} at {revision[:12]}, in the local cache")
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(where, revision=revision, files_metadata=True, timeout=10)
    except Exception as error:  # as in the token's check
        text = f"{where} is not in the local cache, and the Hub gives no answer ({type(error).__name__})"
        return fail(role, text, option(f"pair.{role}=DIR") + "  # a local folder, or connect to the network")
    size = sum(file.size or 0 for file in info.siblings or [] if file.rfilename.endswith(".safetensors"))
    return ok(role, f"{where} at {revision[:12]}: {size / 1e9:.1f} GB to download")


def _cached(where: str, revision: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(where, "config.json", revision=revision), str)


def _opened(role: str, cfg: DictConfig, checkpoints: dict[str, Checkpoint]) -> Iterator[Finding]:
    """Everything `load_pair` checks of one model, weights not read."""
    try:
        # Of this role alone: the other one may be missing, which is said in its own line.
        settings = {role: str(cfg.pair[role]), f"{role}_revision": cfg.pair.get(f"{role}_revision")}
        found = checkpoints[role] = open_checkpoint(role, settings)
    except DraftersError as error:
        yield fail(role, str(error), option(f"pair.{role}=DIR") + "  # with config.json, tokenizer.json, *.safetensors")
        return
    kind, size = found.config.model_type, found.parameters / 1e6
    yield ok(role, f"{cfg.pair[role]}: {kind}, {size:,.1f} M parameters, {found.vocabulary:,} tokens")


def _tokenizers(cfg: DictConfig, checkpoints: dict[str, Checkpoint]) -> Finding:
    """Which samplers the two tokenizers allow."""
    try:
        vocab, _, foreign = match_vocabularies(checkpoints["target"], checkpoints["drafter"], cfg.pair.foreign)
    except DraftersError as error:
        return fail("tokenizers", str(error), option("pair.foreign=null") + "  # compares them by itself")
    target, drafter = (checkpoints[role].vocabulary for role in ROLES)
    if vocab is None:
        return ok("tokenizers", "the same, with equally many rows")
    shared = int((vocab.to_target >= 0).sum())
    if not foreign:
        return ok("tokenizers", f"the same; rows padded to {target:,} and {drafter:,}")
    text = f"different; {shared:,} of the drafter's {drafter:,} tokens are tokens of the target too"
    if 2 * shared < drafter:
        return warn(
            "tokenizers",
            text,
            option("eval.samplers=[slem,slrs]") + "  # they compare text; or a drafter of the target's family",
        )
    return ok("tokenizers", text)


def _memory(cfg: DictConfig, checkpoints: dict[str, Checkpoint]) -> Finding:
    """Both models' weights fit where they will be run."""
    import torch

    from drafters.models.devices import choose_device, choose_dtype, free_bytes

    try:
        device = choose_device(cfg.device)
        dtype = choose_dtype(cfg.dtype, device)
    except DraftersError as error:
        return fail("memory", str(error), option("device=auto dtype=auto"))
    need = OVERHEAD * sum(checkpoints[role].weight_bytes(dtype) for role in ROLES)
    free = _free_ram() if device.type != "cuda" else free_bytes(device) * torch.cuda.device_count()
    text = f"{need / 2**30:.2f} GiB needed for both models, {free / 2**30:.1f} GiB free on {device.type}"
    if need > free:
        return fail("memory", text, option("dtype=bf16") + "  # or a smaller target, or another device")
    return ok("memory", text)


def _free_ram() -> int:
    """Bytes that a process can have without swapping; all of the machine's where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _licence(cfg: DictConfig, drafter: Checkpoint) -> Finding:
    """The drafter's licence is known and allows publishing; only publishing asks for it."""
    from drafters.publish.licences import inherit
    from pipeline.stages.package import licence_of

    own, publish = cfg.package, cfg.publish
    try:
        name, text = licence_of(drafter, own.licence, own.licence_file)
        found = inherit(name, text, declared=publish.licence, own_name=publish.licence_name, link=publish.licence_link)
    except (DraftersError, OSError) as error:
        return warn("licence", str(error), option("package.licence=NAME package.licence_file=FILE"))
    return ok("licence", f"{found.name}: may be published" + "".join(f"; {line}" for line in found.obligations))
