"""Checks of ``make doctor`` about the two models: there, pinned, safe to load, of one kind, small enough, licensed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from drafters.errors import DraftersError
from drafters.io.borrowed_json import BORROWED
from drafters.io.hub import commit_of, on_hub, refusal
from drafters.models.gguf.cache import steps
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.package_error import PackageError
from drafters.vocab.feed import FeedTable
from drafters.vocab.protected import protected_tokens
from pipeline.cut.layers import choose_layers
from pipeline.doctor.asked_checks import sampler_finding
from pipeline.doctor.finding import Finding, fail, ok, option, warn
from pipeline.doctor.folder_checks import folder_findings, pair_findings
from pipeline.errors import ConfigError

ROLES = ("target", "drafter")
OVERHEAD = 1.3  # caches, logits and the interpreter, as a factor on the weights


def model_findings(
    cfg: DictConfig, roles: Sequence[str] = ROLES, fetch: bool = False, cuts: bool = False
) -> Iterator[Finding]:
    """Both models, then the two together.

    Args:
        fetch: download a model that is on the Hub and not yet here; else it is asked about.
        cuts: a drafter is to be made of the target's layers.
    """
    checkpoints: dict[str, Checkpoint] = {}
    for role in roles:
        where = "" if OmegaConf.is_missing(cfg.pair, role) else str(cfg.pair[role])
        revision = cfg.pair.get(f"{role}_revision")
        if not where:
            yield fail(role, "not set", option(f"pair.{role}=DIR"))
        elif on_hub(where) and not fetch:
            finding, commit = _remote(role, where, revision)
            yield finding
            if commit and _cached(where, commit):
                with open_dict(cfg):
                    cfg.pair[f"{role}_revision"] = commit
                yield from _opened(role, cfg, checkpoints)
        else:
            yield from _opened(role, cfg, checkpoints)
    for role, found in checkpoints.items():
        yield from folder_findings(role, found, cfg.device, cfg.pair.get("unset"))
    if cuts and "target" in checkpoints:
        yield _layers(cfg, checkpoints["target"])
    if len(checkpoints) == len(ROLES):
        yield _tokenizers(cfg, checkpoints)
        yield from pair_findings(checkpoints["target"], checkpoints["drafter"])
        yield from sampler_finding(cfg, checkpoints["target"], checkpoints["drafter"])
        yield _memory(cfg, checkpoints)
    if "drafter" in checkpoints:
        yield _licence(cfg, checkpoints["drafter"])


def _remote(role: str, where: str, revision: str | None) -> tuple[Finding, str | None]:
    """A Hub id and the commit it stands for; where the network answers: it may be read, and how big it is."""
    from huggingface_hub import HfApi

    advice = f"Give a local model folder with pair.{role}=DIR."
    try:
        commit = commit_of(where, revision, advice)
    except PackageError as refused:
        return _refused(role, where, refused), None
    pinned = "" if commit == revision else f", pin it with pair.{role}_revision={commit}"
    if _cached(where, commit):
        return ok(role, f"{where} at {commit[:12]}, in the local cache{pinned}"), commit
    try:
        info = HfApi().model_info(where, revision=commit, files_metadata=True, timeout=10)
        if info.gated:
            HfApi().auth_check(where)
    except Exception as error:  # as in the token's check
        return _refused(role, where, refusal(error, where, commit, advice)), None
    size = sum(file.size or 0 for file in info.siblings or [] if file.rfilename.endswith(".safetensors"))
    return ok(role, f"{where} at {commit[:12]}: {size / 1e9:.1f} GB to download{pinned}"), commit


def _refused(role: str, where: str, why: PackageError) -> Finding:
    return fail(role, f"{where}: expected {why.expected}, got {why.got}", why.fix)


def _cached(where: str, revision: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(where, "config.json", revision=revision), str)


def _opened(role: str, cfg: DictConfig, checkpoints: dict[str, Checkpoint]) -> Iterator[Finding]:
    """Everything `load_pair` checks of one model, weights not read."""
    try:
        for step in steps(str(cfg.pair[role])):  # before the minute that it takes
            yield ok(role, step)
        # Of this role alone, and what a drafter may borrow of: the other one may be missing, which is said in its own line.
        given = {role, *checkpoints}
        settings = {name: str(cfg.pair[name]) for name in given}
        settings |= {f"{name}_revision": cfg.pair.get(f"{name}_revision") for name in given}
        found = checkpoints[role] = open_checkpoint(role, settings)
    except DraftersError as error:
        if isinstance(error, PackageError) and error.file == BORROWED and "target" not in checkpoints:
            yield warn(role, str(error), option("pair.target=DIR") + "  # once that is here, both are checked")
            return
        yield fail(role, str(error), option(f"pair.{role}=DIR") + "  # with config.json, tokenizer.json, *.safetensors")
        return
    kind, size = found.config.model_type, found.parameters / 1e6
    yield ok(role, f"{cfg.pair[role]}: {kind}, {size:,.1f} M parameters, {found.vocabulary:,} tokens")


def _layers(cfg: DictConfig, target: Checkpoint) -> Finding:
    """The target has the layers that are to be taken of it, and they can be."""
    try:
        chosen = choose_layers(target.config, cfg.cut.layers, cfg.cut.count)
    except ConfigError as error:
        return fail("target layers", str(error), "")  # which says what to set
    return ok("target layers", f"a drafter can be cut of {chosen}")


def _tokenizers(cfg: DictConfig, checkpoints: dict[str, Checkpoint]) -> Finding:
    """Whether the two vocabularies are one, what differs all the same, and what of the target's a foreign drafter can say."""
    target, drafter = (checkpoints[role] for role in ROLES)
    try:
        match = match_vocabularies(target, drafter, cfg.pair.foreign)
    except DraftersError as error:
        return fail("tokenizers", str(error), option("pair.drafter=DIR") + "  # of the target's family")
    if match.feed is None:
        sizes = target.vocabulary, drafter.vocabulary
        rows = "with equally many rows" if match.vocab is None else f"rows padded to {sizes[0]:,} and {sizes[1]:,}"
        text = f"the same, {rows}" + (f"; {match.differences}" if match.differences else "")
        if match.same:
            return ok("tokenizers", text)
        text = f"taken as one, as pair.foreign=false says; {match.differences}"
        return warn("tokenizers", text, option("pair.foreign=null") + "  # compares them by itself")
    known, shared = len(target.tokenizer), int((match.tokens.to_drafter >= 0).sum())
    text = f"different; {shared:,} of the target's {known:,} tokens can be proposed ({shared / known:.1%}); "
    text += _marked(target, drafter, match.feed)
    if 2 * shared < known:
        advice = "they compare text; or a drafter of the target's family"
        return warn("tokenizers", text, option("eval.samplers=[slem,slrs]") + f"  # {advice}")
    return ok("tokenizers", text)


def _marked(target: Checkpoint, drafter: Checkpoint, feed: FeedTable) -> str:
    """As what the drafter reads the target's ends and turn markers."""
    names = target.tokenizer.convert_ids_to_tokens, drafter.tokenizer.convert_ids_to_tokens
    ids = sorted({*protected_tokens(target.tokenizer, target.eos).tolist()} & feed.specials)
    read = {token: names[1](feed.row(token).tolist()) for token in ids}
    said = [f"{names[0](token)} as {''.join(parts)}" for token, parts in read.items() if parts]
    lost = [str(names[0](token)) for token, parts in read.items() if not parts]
    return f"the drafter reads {', '.join(said) or 'no marker'}" + (f", not {', '.join(lost)}" if lost else "")


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
