"""The pair as its package will run it: target, pruned drafter, and the sampler that the policy is trained for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from drafters.engine.transformers_pair import TransformersPair, pair_of
from drafters.errors import DraftersError
from drafters.models.heads import grow_embedding
from drafters.models.model_folder import quiet
from drafters.models.pair import ModelPair, load_pair
from drafters.models.prune import VOCAB_FILE, load_pruned
from drafters.package.components import AFFINITY, load_affinity
from drafters.samplers.catalog import build
from drafters.samplers.draft import Chain, Sampler, StringProposal
from drafters.samplers.needs import is_identity
from drafters.vocab.alignment import VocabMap
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Opened:
    """Models and sampler, ready to decode."""

    models: ModelPair
    pair: TransformersPair
    vocab: VocabMap
    sampler: Sampler


def open_pair(
    pair: Mapping[str, Any], inputs: Mapping[str, Path], sampler_name: str | None, *, device: str, dtype: str
) -> Opened:
    """Load the pair with the drafter, and the prior, that `inputs` name.

    ``sampler_name`` None: the plain one that fits.

    Raises ConfigError for one that does not draft chains of tokens or does not fit the pair.
    """
    folder = inputs.get("drafter", inputs["prune"])
    maps = load_file(folder / VOCAB_FILE)
    vocab = VocabMap(maps["to_target"], maps["to_drafter"])
    with quiet(always=True):
        models = load_pair(pair, device=device, dtype=dtype)
        where = models.target.get_input_embeddings().weight.device
        drafter = load_pruned(folder / "model", dtype=models.drafter.dtype).to(where).eval()
        if not models.foreign:
            grow_embedding(drafter, models.vocabulary)
    prior = None
    if "affinity" in inputs and (inputs["affinity"] / AFFINITY).is_file():
        prior = load_affinity(inputs["affinity"], len(vocab.to_target), len(vocab.to_drafter))
    name = sampler_name or ("standard" if is_identity(vocab) else "tli")
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
