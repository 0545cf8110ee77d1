"""Checks of one model that its config, its tokenizer and the headers of its weights can answer; no weights are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from drafters.errors import DraftersError
from drafters.models import quantised
from drafters.models.architecture import model_class, skeleton
from drafters.models.model_folder import open_generation_config
from drafters.models.pair import Checkpoint, check_generation_config, context_length
from drafters.package_error import PackageError
from drafters.samplers.lossy_settings import processors
from pipeline.doctor.finding import Finding, fail, ok, option, warn


def folder_findings(role: str, found: Checkpoint, device: str, unset: Sequence[str] | None = None) -> Iterator[Finding]:
    """What stands in the way of decoding with a model that `open_checkpoint` accepted; and what its makers left in it."""
    if found.notes:
        yield ok(role, f"notes left out: {', '.join(found.notes)}")
    other = option(f"pair.{role}=DIR")
    if (problem := _engine(found)) is not None:
        yield fail(f"{role} engine", problem, other + "  # package and export work, decoding here does not")
    if (method := quantised.method(found.config)) is not None:
        yield _quantised(role, found, method, device)
    else:
        yield from _weights(role, found, other)
    if role == "target":
        yield from _generation(found, unset)


def _engine(found: Checkpoint) -> str | None:
    from drafters.engine.cache.supported_models import check_architecture

    try:
        check_architecture(model_class(found.config), found.config)
    except DraftersError as error:
        return str(error)
    return None


def _quantised(role: str, found: Checkpoint, method: str, device: str) -> Finding:
    from drafters.models.devices import choose_device

    try:
        quantised.check_target(found.config, choose_device(device))
    except PackageError as error:
        return fail(f"{role} weights", str(error).removesuffix(error.fix).rstrip(), error.fix)
    except DraftersError:
        return warn(
            f"{role} weights", f"quantised by {method}; not tried, there is no such device", option("device=auto")
        )
    return ok(f"{role} weights", f"quantised by {method}; opened by transformers, then neither cast nor moved")


def _weights(role: str, found: Checkpoint, fix: str) -> Iterator[Finding]:
    """The model can be built, its weights files hold enough numbers for it, and a drafter's head can be cut."""
    check = f"{role} weights"
    try:
        model = skeleton(found.config)
    except DraftersError as error:
        yield fail(check, str(error), fix)
        return
    if found.parameters < (need := sum(weight.numel() for weight in model.parameters())):
        yield fail(
            check, f"expected {need:,} numbers in *.safetensors, got {found.parameters:,}: not all is there", fix
        )
    head = model.get_output_embeddings()
    if role == "drafter" and not (isinstance(head, nn.Linear) and head in model._modules.values()):
        text = f"expected a linear output head at the top of {type(model).__name__}, got {type(head).__name__}"
        yield fail(check, f"{text}: it cannot be pruned", fix)


def _generation(found: Checkpoint, unset: Sequence[str] | None) -> Iterator[Finding]:
    """What the target's own generation does to its distribution; `drafters.generate`, eval and stage=generate refuse it, too."""
    try:
        check_generation_config(found, unset)
    except DraftersError as error:
        config = open_generation_config(found.source)
        bent = [] if config is None else list(processors(config.to_dict()))
        fix = option(f"pair.unset=[{','.join(bent)}]") if bent else "remove it from generation_config.json"
        yield fail("target settings", str(error), fix)


def pair_findings(target: Checkpoint, drafter: Checkpoint) -> Iterator[Finding]:
    """What only both models together tell, beside their vocabularies."""
    ours, theirs = context_length(target.config), context_length(drafter.config)
    if theirs is not None and (ours is None or theirs < ours):
        longer = "any number" if ours is None else f"{ours:,}"
        text = (
            f"the drafter reads {theirs:,} tokens, the target {longer}: beyond that, decoding goes on without drafts, "
        )
        text += "and other engines may refuse longer texts"
        yield warn("context", text, option("pair.drafter=DIR") + "  # of a longer context, if texts get that long")
    if target.config.get_text_config() is not target.config:
        yield ok("target", f"{model_class(target.config).__name__}: a composite, used for text alone")
