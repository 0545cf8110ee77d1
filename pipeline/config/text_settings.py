"""What affinity, tail, distill and sweep have in common: the text that they fit to, as inputs, keys and checks of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from drafters.probs import Sampling
from pipeline.config.settings import corpus_of, drafter_inputs, look, pair_of, plain, served_sampling
from pipeline.errors import ConfigError
from pipeline.runner.stage import Context, pair_external
from pipeline.text import corpus
from pipeline.text.corpus import CorpusConfig

SOURCES = ("corpus", "generations")


@dataclass(frozen=True)
class Source:
    """What `pipeline.fit.text_and_models.open_reading` opens: both models, the pruned drafter, and the text."""

    pair: Mapping[str, Any]
    folder: Path  # of the pruned drafter
    text: CorpusConfig | Path  # a corpus, or the folder of the target's own text
    sampling: Sampling  # that will be served
    device: str
    dtype: str


def source_of(context: Context, name: str) -> Source:
    """Return what stage ``name`` opens."""
    cfg, inputs = context.cfg, context.inputs
    folder = inputs.get("drafter", inputs["prune"])
    return Source(pair_of(cfg), folder, text_of(context, name), served_sampling(cfg), cfg.device, cfg.dtype)


def text_of(context: Context, name: str) -> CorpusConfig | Path:
    """Return the corpus that stage ``name`` reads, or the folder of the target's own text."""
    generated = context.cfg[name].source == "generations"
    return context.inputs["generate"] if generated else corpus_of(context.cfg)


def stage_inputs(cfg: DictConfig, name: str) -> dict[str, str]:
    """``prune``, the healed drafter where there is one, and the target's own text where stage ``name`` reads it."""
    own = cfg[name].source == "generations"
    return drafter_inputs(cfg, *{"distill"} - {name}) | ({"generate": "generate"} if own else {})


def key_values(cfg: DictConfig, name: str) -> dict[str, object]:
    """The settings of stage ``name``, the sampling that will be served, the text and the seed."""
    own = plain(cfg[name])
    own.pop("enabled", None)
    served = {key: cfg.package[key] for key in ("temperature", "top_k", "top_p", "lookahead")}
    text = {} if cfg[name].source == "generations" else {"corpus": corpus.key_values(corpus_of(cfg))}
    return {**own, **served, **text, "seed": int(cfg.seed)}


def external(cfg: DictConfig, name: str) -> dict[str, str]:
    """Both models, and the text where it is a corpus."""
    found = pair_external(cfg)
    return found if cfg[name].source == "generations" else found | corpus.external(corpus_of(cfg))


def check(cfg: DictConfig, name: str) -> None:
    """Raise ConfigError for text settings that cannot work, before anything is loaded."""
    settings = cfg[name]
    if settings.source == "corpus":
        look(cfg, "corpus")
    if settings.source not in SOURCES:
        raise ConfigError(f"{name}.source={settings.source}: choose one of: {', '.join(SOURCES)}")
    for field, least in (("tokens", 100), ("window", 2), ("windows_per_document", 1)):
        if settings[field] < least:
            raise ConfigError(f"{name}.{field}={settings[field]}: expected a whole number from {least}")
