"""The pair as its package will run it: target, pruned drafter, and the sampler that the policy is trained for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file

from drafters.engine.transformers_pair import TransformersPair, pair_of
from drafters.errors import DraftersError
from drafters.models.model_folder import quiet
from drafters.models.pair import ModelPair, load_pair, pair_settings
from drafters.models.prune import VOCAB_FILE, load_pruned
from drafters.package.components import AFFINITY, load_affinity
from drafters.samplers.catalog import build, needs_prior
from drafters.samplers.draft import Chain, Sampler, StringProposal
from drafters.samplers.needs import is_identity
from drafters.vocab.alignment import VocabMap
from pipeline.errors import ConfigError

# Stages that change the drafter's weights, the latest first; a tail leaves the kept rows as they are.
LATER = ("distill",)


@dataclass(frozen=True)
class Opened:
    """Models and sampler, ready to decode."""

    models: ModelPair
    pair: TransformersPair
    vocab: VocabMap
    sampler: Sampler


def open_pair(cfg: DictConfig, inputs: dict[str, Path]) -> Opened:
    """Load what `inputs` name. Raises ConfigError for a sampler that does not draft chains of tokens or does not fit the pair."""
    folder = inputs.get("drafter", inputs["prune"])
    maps = load_file(folder / VOCAB_FILE)
    vocab = VocabMap(maps["to_target"], maps["to_drafter"])
    with quiet(always=True):
        models = load_pair(pair_settings(cfg.pair), device=cfg.device, dtype=cfg.dtype)
        where = models.target.get_input_embeddings().weight.device
        drafter = load_pruned(folder / "model", dtype=models.drafter.dtype).to(where).eval()
    prior = None
    if "affinity" in inputs and (inputs["affinity"] / AFFINITY).is_file():
        prior = load_affinity(inputs["affinity"], len(vocab.to_target), len(vocab.to_drafter))
    name = sampler_name(cfg) or ("standard" if is_identity(vocab) else "tli")
    try:
        sampler = build(name, vocab, affinity=prior)
    except (DraftersError, ValueError) as error:
        raise ConfigError(f"traces.sampler={name}: {error}") from error
    if isinstance(sampler.proposal, StringProposal) or not isinstance(sampler.shape, Chain):
        raise ConfigError(
            f"traces.sampler={name}: expected a sampler that drafts a chain of tokens, e.g. tli or rdk: a stop policy reads "
            "the law of every drafted token"
        )
    return Opened(models, pair_of(models, drafter), vocab, sampler)


def sampler_name(cfg: DictConfig) -> str | None:
    """The sampler asked for; None: the plain one that fits."""
    chosen = cfg.traces.sampler or cfg.package.sampler
    return None if chosen is None else str(chosen)


def stage_inputs(cfg: DictConfig) -> dict[str, str]:
    """The drafter's stages, and the prior's where the sampler needs it."""
    later = next((name for name in LATER if OmegaConf.select(cfg, f"{name}.enabled", default=False)), None)
    found = {"prune": "prune"} | ({"drafter": later} if later else {})
    return found | ({"affinity": "affinity"} if needs_prior(sampler_name(cfg)) else {})


def models_external(cfg: DictConfig) -> dict[str, str]:
    """Both models' folders or commits, for `Stage.external`."""
    found: dict[str, Any] = {}
    for role in ("target", "drafter"):
        revision = cfg.pair.get(f"{role}_revision")
        found[role] = f"{cfg.pair[role]}@{revision}" if revision else str(cfg.pair[role])
    return found
