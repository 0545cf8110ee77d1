"""One decode call, checked and built from what its caller gave: models, sampler, stop policy, prompts, coins, limits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drafters.decoding_choice import Asked, DecodingPlan, plan
from drafters.engine.cache.supported_models import check_supported
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair
from drafters.io.hub import local_source
from drafters.models.model_folder import check_model_folder, open_tokenizer
from drafters.models.pair import ModelPair, PairError, eos_ids, vocabulary_size
from drafters.package.reader import Package
from drafters.probs import Sampling
from drafters.prompts import Prompts, read_prompts
from drafters.rng.coins import KeyedCoins
from drafters.samplers.lossy_settings import check_acceptance, check_processors
from drafters.vocab.alignment import align
from drafters.vocab.feed import feed_table
from drafters.vocab.texts import Texts, read_texts

_foreign_pairs: WeakKeyDictionary[Package, ModelPair] = WeakKeyDictionary()
_texts_of: WeakKeyDictionary[Package, tuple[PreTrainedTokenizerBase, Texts]] = WeakKeyDictionary()
_tokenizers: WeakKeyDictionary[PreTrainedModel, tuple[str, PreTrainedTokenizerBase]] = (
    WeakKeyDictionary()
)  # with the folder
_told: tuple[WeakSet[Package], WeakSet[Package]] = (
    WeakSet(),
    WeakSet(),
)  # packages whose plain decoding, context was explained


@dataclass(frozen=True)
class DecodeCall:
    """A decode call, checked: what the engine is given."""

    pair: TransformersPair
    chosen: DecodingPlan
    prompts: list[Tensor]
    coins: KeyedCoins
    limits: Limits

    @staticmethod
    def of(
        target: PreTrainedModel,
        package: Package,
        given: tuple[Prompts, Tensor | Sequence[Sequence[int]] | None],
        asked: Asked,
        sampling: Sampling,
        max_new_tokens: int,
        seed: int,
        stop_strings: tuple[str, ...],
        tokenizer: PreTrainedTokenizerBase | None,
        compile: bool,
    ) -> DecodeCall:
        """A call with its arguments checked and its pair, sampler and stop policy built. Raises as `generate` does."""
        check_target(target, package)
        check_supported(target)
        check_settings(target, package.drafter)
        pads = _pad_ids(target, package, tokenizer)
        prompts = read_prompts(
            *given, lambda: tokenizer or _tokenizer_of(target), vocabulary_size(target.config), *pads
        )
        if tokenizer is None and (package.foreign or stop_strings):
            tokenizer = _tokenizer_of(target)
        device = target.get_input_embeddings().weight.device
        if package.drafter.device != device:
            package.to(device)
        chosen = plan(package, sampling, device.type, asked, partial(_texts, package, tokenizer))
        drafter = package.tailed if chosen.tailed and package.tailed is not None else package.drafter
        pair = replace(_pair(target, package, drafter, tokenizer), compile=compile)
        limits = Limits(max_new_tokens, sampling, None, stop_strings, None if tokenizer is None else tokenizer.decode)
        return DecodeCall(pair, chosen, prompts, KeyedCoins(seed, torch.arange(len(prompts), device=device)), limits)

    def tell(self, package: Package) -> None:
        """Warn the caller's caller, once for a package, where this call does not draft or may stop drafting."""
        if self.chosen.sampler is None:
            _tell_once(0, package, "eval found no gain: plain decoding; pass sampler=... to draft anyway")
        elif (said := _short_context(self.pair, self.prompts, self.limits.max_new_tokens)) is not None:
            _tell_once(1, package, said)


def _tell_once(kind: int, package: Package, text: str) -> None:
    if package not in _told[kind]:
        _told[kind].add(package)
        warnings.warn(text, stacklevel=4)


def _short_context(pair: TransformersPair, prompts: list[Tensor], new: int) -> str | None:
    """What is to be said where the drafter's context ends before this call does; output is the same."""
    (whole, limit), longest = pair.context, max(map(len, prompts), default=0) + new
    if limit is None or longest <= limit or (whole is not None and whole <= limit):
        return None
    return (
        f"the drafter's context ends at {limit:,} tokens and this call may reach {longest:,}: from there on nothing is drafted, "
        "and decoding goes on plainly (the same output)"
    )


def _pad_ids(
    target: PreTrainedModel, package: Package, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[set[int], set[int]]:
    """Ids that a tokenizer may have padded with, and those of them that only pad.

    They are its own pad token, the models', and ends of text, which often stand in for it.
    """
    ours: tuple[object, ...] = (target.config.get_text_config(), target.generation_config, tokenizer)
    said = {role: [getattr(source, f"{role}_token_id", None) for source in ours] for role in ("pad", "bos")}
    pads, opens = ({token for token in ids if isinstance(token, int)} for ids in said.values())
    ends = {*package.description["eos"], *eos_ids(target.config, target.generation_config, tokenizer)}
    return pads | ends, pads - ends - opens


def check_target(target: PreTrainedModel, package: Package) -> None:
    """Raise PairError for a target whose vocabulary is not the one the package was made for."""
    made_for = package.description["target"]
    if (size := vocabulary_size(target.config)) != made_for["vocabulary"]:
        raise PairError(
            f"the package {package.description['name']} was made for {made_for['id']} with {made_for['vocabulary']:,} "
            f"tokens, got a target with {size:,}: load that target, or run stage=package for this one"
        )


def check_settings(target: PreTrainedModel, drafter: PreTrainedModel) -> None:
    """Raise LossyError where a model's generation config relaxes acceptance or changes p by what is not applied here."""
    for role, model in (("target", target), ("drafter", drafter)):
        if model.generation_config is not None:
            check_acceptance(f"the {role}'s generation config", model.generation_config.to_dict())
    if target.generation_config is not None:
        check_processors(target.generation_config.to_dict())


def _pair(
    target: PreTrainedModel,
    package: Package,
    drafter: PreTrainedModel,
    target_tokenizer: PreTrainedTokenizerBase | None,
) -> TransformersPair:
    # As the target's own generate takes it; the package knows it from the tokenizer where no config says it.
    eos = eos_ids(target.config, target.generation_config, target_tokenizer) or tuple(package.description["eos"])
    if not package.foreign or target_tokenizer is None:
        return TransformersPair(target, drafter, eos)
    models = _foreign_pairs.get(package)
    if models is None or models.target is not target or models.target_tokenizer is not target_tokenizer:
        sizes = vocabulary_size(target.config), package.description["drafter"]["vocabulary"]
        models = ModelPair(
            target=target,
            drafter=package.drafter,
            target_tokenizer=target_tokenizer,
            drafter_tokenizer=package.tokenizer,
            # Of the whole drafter, as prompts and committed tokens may use all of its embedding.
            vocab=align(target_tokenizer, package.tokenizer, *sizes),
            feed=feed_table(target_tokenizer, package.tokenizer, *sizes),
            foreign=True,
            ids=(package.description["target"]["id"], package.description["drafter"]["id"]),
            revisions=(package.description["target"]["revision"], package.description["drafter"]["revision"]),
            eos=eos,
        )
        _foreign_pairs[package] = models
    return TransformersPair(target, package.drafter, eos, models.feed, models)


def _texts(package: Package, target_tokenizer: PreTrainedTokenizerBase | None) -> Texts:
    """What the ids of the target and of the package spell; unless foreign, the package's tokenizer is the target's."""
    ours = target_tokenizer if package.foreign and target_tokenizer is not None else package.tokenizer
    known = _texts_of.get(package)
    if known is None or known[0] is not ours:
        rows, own_rows = (package.description[role]["vocabulary"] for role in ("target", "drafter"))
        known = ours, read_texts(ours, package.tokenizer, rows, own_rows, package.kept)
        _texts_of[package] = known
    return known[1]


def _tokenizer_of(target: PreTrainedModel) -> PreTrainedTokenizerBase:
    known = _tokenizers.get(target)
    if known is not None and known[0] == target.name_or_path:
        return known[1]
    folder = Path(target.name_or_path or "")
    if not target.name_or_path or not folder.is_dir():
        raise PairError(
            f"the target's tokenizer is needed and {target.name_or_path or 'its model'!r} is no local folder that "
            "could hold it: pass tokenizer="
        )
    source = local_source(folder, str(folder))
    check_model_folder(source)
    tokenizer = open_tokenizer(source, "Pass tokenizer=.")
    _tokenizers[target] = target.name_or_path, tokenizer
    return tokenizer
