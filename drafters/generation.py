"""The user's calls: continue prompts with a target model and a drafter package, losslessly, at once or round by round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drafters.decode_call import DecodeCall
from drafters.decoding_choice import Asked
from drafters.engine import decode
from drafters.engine.decode import Decoded, autoregressive, speculative
from drafters.engine.rounds import Round
from drafters.package.reader import Package
from drafters.probs import Sampling
from drafters.prompts import Prompts
from drafters.samplers.draft import Sampler
from drafters.stop.policy import StopPolicy


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
    call = DecodeCall.of(
        target, package, (input_ids, attention_mask), Asked(sampler, stop, lookahead), Sampling(temperature, top_k, top_p),
        max_new_tokens, seed, tuple(stop_strings), tokenizer, compile,
    )  # fmt: skip
    call.tell(package)
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
    call = DecodeCall.of(
        target, package, (input_ids, attention_mask), Asked(sampler, stop, lookahead), Sampling(temperature, top_k, top_p),
        max_new_tokens, seed, tuple(stop_strings), tokenizer, compile,
    )  # fmt: skip
    call.tell(package)
    return (each.tokens for each in _rounds(call))


def stream_rounds(
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
) -> Iterator[Round]:
    """Yield the rounds of `stream`: tokens with who wrote each, drafts made and accepted, seconds.

    Arguments and errors are those of `generate`, raised by the call itself; ValueError for more than one prompt.
    """
    call = DecodeCall.of(
        target, package, (input_ids, attention_mask), Asked(sampler, stop, lookahead), Sampling(temperature, top_k, top_p),
        max_new_tokens, seed, tuple(stop_strings), tokenizer, compile,
    )  # fmt: skip
    call.tell(package)
    return _rounds(call)


def _rounds(call: DecodeCall) -> Iterator[Round]:
    if len(call.prompts) != 1:
        raise ValueError(f"stream: expected one prompt, got {len(call.prompts)}; stream each alone, or use generate")
    return decode.stream_rounds(
        call.pair, call.chosen.sampler, call.chosen.stop, call.prompts[0], call.coins, call.limits
    )
