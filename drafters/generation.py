"""The user's one call: continue prompts with a target model and a drafter package, losslessly."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drafters.decoding_choice import Asked, plan
from drafters.engine.decode import Decoded, autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair
from drafters.io.hub import local_source
from drafters.models.model_folder import check_model_folder, open_tokenizer
from drafters.models.pair import ModelPair, PairError, eos_ids, vocabulary_size
from drafters.package.reader import Package
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.draft import Sampler
from drafters.samplers.lossy_settings import LossyError, check_acceptance, processors
from drafters.stop.policy import StopPolicy
from drafters.vocab.alignment import align
from drafters.vocab.feed import feed_table
from drafters.vocab.texts import Texts, read_texts

_foreign_pairs: WeakKeyDictionary[Package, ModelPair] = WeakKeyDictionary()
_texts_of: WeakKeyDictionary[Package, tuple[PreTrainedTokenizerBase, Texts]] = WeakKeyDictionary()
_told: WeakSet[Package] = WeakSet()  # packages whose plain decoding was explained


def generate(
    target: PreTrainedModel,
    package: Package,
    input_ids: Tensor | Sequence[Tensor],
    *,
    sampler: str | Sampler | None = None,
    stop: str | StopPolicy | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    max_new_tokens: int = 128,
    seed: int = 0,
    lookahead: int | None = None,
    stop_strings: Sequence[str] = (),
    target_tokenizer: PreTrainedTokenizerBase | None = None,
    compile: bool = False,
) -> Decoded:
    """Continue prompts with exactly the distribution that plain decoding of ``target`` has.

    Args:
        input_ids: int64 (n,) for one prompt, (B, n) for several of equal length, or a list of (n,); without padding.
        sampler: a name of the catalog, or a Sampler. "tail" drafts with the package's low-rank tail. None is what the
            package's `recommendation` names for this temperature and this type of device, which may be plain decoding;
            where it says nothing of them, standard for an unpruned drafter, else tli.
        stop: a policy's name (`drafters.stop.catalog`), or a StopPolicy; None goes with ``sampler=None``, else it is
            static.
        lookahead: tokens that ``static`` drafts per round; None for the recommended or the package's own number.
        temperature: 0 is greedy. top_k: 0 is off. top_p: 1 is off.
        seed: the same one gives the same tokens for a prompt, whatever it is batched with (a row's number counts),
            unless rounding decides one. Its coins are equal bits; logits differ in the last ones between forwards of
            other widths, threads and processors, and a token changes, and with it what follows, where a coin falls
            within that difference, or at temperature 0 where the two largest logits do. In fp32 that is about one token
            in a million (embedded target alone and in a batch of 8: distributions 6e-7 apart in total variation).
        stop_strings: texts that end a continuation. target_tokenizer: needed for them and for a drafter with another
            tokenizer, unless ``target`` was loaded from a local folder that holds it.
        compile: compile the forwards that recur (torch.compile): one prompt at a time, tens of seconds per shape, then
            about 1.6x the speed on a CPU; the same distribution, logits within rounding.

    Returns:
        Decoded: ``tokens``, a list of int64 (n,), new ones only; ``accepted``, ``drafted``, ``target_forwards``
        int64 (B,).

    Raises:
        PairError: a package made for another vocabulary, or a tokenizer that is needed and not there.
        LossyError: a setting under which the output would not have the target's distribution.
        StopError: an unknown stop policy, or one that needs a trained part that the package does not have.
        ValueError: an unknown name, or a value out of range.
    """
    check_target(target, package)
    check_settings(target, package.drafter)
    if target_tokenizer is None and (package.foreign or stop_strings):
        target_tokenizer = _tokenizer_of(target)
    device = target.get_input_embeddings().weight.device
    if package.drafter.device != device:
        package.to(device)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    texts = partial(_texts, package, target_tokenizer)
    chosen = plan(package, sampling, device.type, Asked(sampler, stop, lookahead), texts)
    drafter = package.tailed if chosen.tailed and package.tailed is not None else package.drafter
    pair = replace(_pair(target, package, drafter, target_tokenizer), compile=compile)
    prompts = _prompts(input_ids, vocabulary_size(target.config))
    limits = Limits(
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop_strings=tuple(stop_strings),
        text=None if target_tokenizer is None else target_tokenizer.decode,
    )
    coins = KeyedCoins(seed, torch.arange(len(prompts), device=device))
    if chosen.sampler is None:
        _tell_once(package)
        return autoregressive(pair, prompts, coins, limits)
    return speculative(pair, chosen.sampler, chosen.stop, prompts, coins, limits)


def _tell_once(package: Package) -> None:
    if package not in _told:
        _told.add(package)
        warnings.warn("eval found no gain: plain decoding; pass sampler=... to draft anyway", stacklevel=3)


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
    settings = {} if target.generation_config is None else target.generation_config.to_dict()
    for name, value in processors(settings).items():
        raise LossyError(
            f"the target's generation config has {name}={value!r}, which plain decoding would apply and this engine does not; "
            f"expected it unset: target.generation_config.{name} = None"
        )


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
    fix = "Pass target_tokenizer=."
    folder = Path(target.name_or_path or "")
    if not target.name_or_path or not folder.is_dir():
        raise PairError(
            f"the target's tokenizer is needed and {target.name_or_path or 'its model'!r} is no local folder that "
            "could hold it: pass target_tokenizer="
        )
    source = local_source(folder, str(folder))
    check_model_folder(source)
    return open_tokenizer(source, fix)


def _prompts(input_ids: Tensor | Sequence[Tensor], vocabulary: int) -> list[Tensor]:
    if isinstance(input_ids, Tensor):
        if input_ids.dim() not in (1, 2):
            raise ValueError(f"input_ids must have shape (n,) or (B, n), got {tuple(input_ids.shape)}")
        rows = [input_ids] if input_ids.dim() == 1 else list(input_ids)
    else:
        rows = list(input_ids)
    for row in rows:
        if row.dtype not in (torch.int64, torch.int32) or row.dim() != 1:
            raise ValueError(f"each prompt must be int64 of shape (n,), got {row.dtype} of shape {tuple(row.shape)}")
        if row.numel() and not (int(row.min()) >= 0 and int(row.max()) < vocabulary):
            raise ValueError(
                f"prompt ids must lie from 0 to {vocabulary - 1}, got {int(row.min())} to {int(row.max())}; "
                "give rows of different lengths as a list instead of padding them"
            )
    return rows
