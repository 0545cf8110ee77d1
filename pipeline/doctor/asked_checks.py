"""Checks of ``make doctor`` about what was asked for by name: text and prompts that can be read, samplers that fit the pair."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from drafters.errors import DraftersError
from drafters.models.pair import Checkpoint, match_vocabularies
from drafters.samplers.catalog import CATALOG
from drafters.samplers.needs import PRIOR, TAIL, WHOLE
from pipeline.config import settings as shared
from pipeline.doctor.finding import Finding, fail, ok, option, warn

SAMPLERS = "samplers"
ONE_VOCABULARY = {WHOLE, PRIOR, TAIL}  # needs that no pair of two tokenizers meets


def text_findings(cfg: DictConfig) -> Iterator[Finding]:
    """The corpus and the suite: given, and their first rows readable; stand-ins are named."""
    for kind in ("corpus", "suite"):
        try:
            held = shared.look(cfg, kind)
        except DraftersError as error:
            yield warn(kind, str(error), option(f"{kind}=local {kind}.path=FILE"))
            continue
        said = [line for line in shared.stand_ins(cfg) if line.startswith(kind)]
        name = f"{cfg[kind].name}{held and f': {held}'}"
        yield warn(kind, said[0], option(f"{kind}=local {kind}.path=FILE")) if said else ok(kind, name)


def sampler_finding(cfg: DictConfig, target: Checkpoint, drafter: Checkpoint) -> Iterator[Finding]:
    """A sampler asked for by name that a pair of two tokenizers cannot have, with those that it can."""
    asked = [str(cfg.samplers[label].name) for label in cfg.eval.samplers or () if label in cfg.samplers]
    unfit = [name for name in asked if ONE_VOCABULARY & set(CATALOG[name].needs)]
    if not unfit:
        return
    try:
        foreign = match_vocabularies(target, drafter, cfg.pair.foreign).foreign
    except DraftersError:  # said by the check of the tokenizers
        return
    if foreign:
        fits = ",".join(name for name, spec in CATALOG.items() if not ONE_VOCABULARY & set(spec.needs))
        text = f"eval.samplers: {', '.join(unfit)}: the tokenizers differ, and these need one vocabulary; what fits: {fits}"
        yield fail(SAMPLERS, text, option(f"eval.samplers=[{','.join(n for n in asked if n not in unfit) or 'tli'}]"))
