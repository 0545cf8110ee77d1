"""The user's calls: continue prompts with a target model and a drafter package, losslessly, at once or round by round."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drafters.decoding_choice import Asked, DecodingPlan, plan
from drafters.engine.cache.supported_models import check_supported
from drafters.engine.decode import Decoded, autoregressive, speculative
from drafters.engine.decode import stream as engine_stream
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair
from drafters.io.hub import local_source
from drafters.models.model_folder import check_model_folder, open_tokenizer
from drafters.models.pair import ModelPair, PairError, eos_ids, vocabulary_size
from drafters.package.reader import Package
from drafters.probs import Sampling
from drafters.prompts import Prompts, read_prompts
from drafters.rng.coins import KeyedCoins
from drafters.samplers.draft import Sampler
from drafters.samplers.lossy_settings import check_acceptance, check_processors
from drafters.stop.policy import StopPolicy
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


def generate(
    target: PreTrainedModel,
    package: Package,
    input_ids: Prompts,
    *,
    attention_mask: Tensor | Sequence[Sequence[int]] | None = None,
    sampler: str | Sampler | None = None,
    stop: str | StopPolicy | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    max_new_tokens: int = 128,
    seed: int = 0,
    lookahead: int | None = None,
    stop_strings: Sequence[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    compile: bool = False,
) -> Decoded:
    """Continue prompts with exactly the distribution that plain decoding of ``target`` has.

    Args:
        input_ids: int64 (n,) for one prompt, (B, n) for several, lists of ids, what ``tokenizer(...)`` returned; a text
            or a list of texts, which get the special tokens that the tokenizer adds; a chat, i.e. a list of messages
            with "role" and "content", or a list of chats, in the template of the tokenizer.
        attention_mask: of a padded ``input_ids``, 0 where it is padding, at the left or right. Rows that begin or end with
            unequally many pad ids are refused without it.
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
        stop_strings: texts that end a continuation. tokenizer: the target's; needed for them, for texts and chats, and for
            a drafter with another tokenizer, unless ``target`` was loaded from a local folder that holds it.
        compile: compile the forwards that recur (torch.compile): one prompt at a time, tens of seconds per shape, then
            about 1.6x the speed on a CPU; the same distribution, logits within rounding.

    Returns:
        Decoded: ``tokens``, a list of int64 (n,), new ones only; ``accepted``, ``drafted``, ``target_forwards``
        int64 (B,).

    Raises:
        PairError: a package made for another vocabulary, or a tokenizer that is needed and not there.
        LossyError: a setting under which the output would not have the target's distribution.
        StopError: an unknown stop policy, or one that needs a trained part that the package does not have.
        UnsupportedModel: a target that cannot roll back, or whose attention takes no masks (flash_attention_2).
        ValueError: an unknown name, a value out of range, or prompts that are none.
    """
    call = _Call.of(
        target, package, (input_ids, attention_mask), Asked(sampler, stop, lookahead), Sampling(temperature, top_k, top_p),
        max_new_tokens, seed, tuple(stop_strings), tokenizer, compile,
    )  # fmt: skip
    pair, chosen, coins = call.pair, call.chosen, call.coins
    if chosen.sampler is None:
        return autoregressive(pair, call.prompts, coins, call.limits)
    return speculative(pair, chosen.sampler, chosen.stop, call.prompts, coins, call.limits)


def stream(
    target: PreTrainedModel,
    package: Package,
    input_ids: Prompts,
    *,
    attention_mask: Tensor | Sequence[Sequence[int]] | None = None,
    sampler: str | Sampler | None = None,
    stop: str | StopPolicy | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    max_new_tokens: int = 128,
    seed: int = 0,
    lookahead: int | None = None,
    stop_strings: Sequence[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    compile: bool = False,
) -> Iterator[Tensor]:
    """Yield the new tokens of one prompt as rounds accept them, int64 (n,), n >= 1: together `generate`'s output.

    Arguments and errors are those of `generate`, raised by the call itself; ValueError for more than one prompt. Closing the
    iterator early frees the caches.
    """
    call = _Call.of(
        target, package, (input_ids, attention_mask), Asked(sampler, stop, lookahead), Sampling(temperature, top_k, top_p),
        max_new_tokens, seed, tuple(stop_strings), tokenizer, compile,
    )  # fmt: skip
    if len(call.prompts) != 1:
        raise ValueError(f"stream: expected one prompt, got {len(call.prompts)}; stream each alone, or use generate")
    return engine_stream(call.pair, call.chosen.sampler, call.chosen.stop, call.prompts[0], call.coins, call.limits)


@dataclass(frozen=True)
class _Call:
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
    ) -> _Call:
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
        if chosen.sampler is None:
            _tell_once(0, package, "eval found no gain: plain decoding; pass sampler=... to draft anyway")
        elif (said := _short_context(pair, prompts, max_new_tokens)) is not None:
            _tell_once(1, package, said)
        return _Call(pair, chosen, prompts, KeyedCoins(seed, torch.arange(len(prompts), device=device)), limits)


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
