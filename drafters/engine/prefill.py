"""What a decode call opens before its first round: requests that fit, two models with caches of the right size, prompts read."""

from __future__ import annotations

import torch

from drafters.engine.cache.cached_model import Model
from drafters.engine.limits import Limits
from drafters.engine.requests import Row, padded
from drafters.engine.transformers_pair import Pair
from drafters.errors import DraftersError
from drafters.rng.coins import Coins, KeyedCoins
from drafters.samplers.draft import Sampler, StringProposal, Tree
from drafters.stop.policy import StopError, StopPolicy


class RequestError(DraftersError):
    """A request that cannot be decoded as asked; the message says what to change."""


def check_requests(pair: Pair, rows: list[Row], limits: Limits) -> None:
    """Raise RequestError for no request, an empty prompt, or one that leaves no room for the new tokens."""
    if not rows:
        raise RequestError("prompts: expected at least one, got none.")
    limit = pair.context[0]
    for number, row in enumerate(rows):
        if row.prompt < 1:
            raise RequestError(f"prompt {number} is empty; decoding needs at least one token, e.g. the BOS token.")
        if limit is not None and row.prompt + limits.max_new_tokens > limit:
            raise RequestError(
                f"prompt {number}: {row.prompt} prompt tokens + {limits.max_new_tokens} new ones exceed the target's context of {limit}; "
                "shorten the prompt or lower max_new_tokens."
            )


def allows(sampler: Sampler, stop: StopPolicy) -> bool:
    """False for a policy that reads distributions along a chain where the sampler drafts a tree or text.

    A tree that grew by what its own siblings are would not be one that tree verifiers are proved for.
    """
    chain = not isinstance(sampler.shape, Tree) and not isinstance(sampler.proposal, StringProposal)
    return chain or not stop.needs_features


def check_stop(sampler: Sampler, stop: StopPolicy) -> None:
    """Raise StopError for a policy that the sampler does not allow."""
    if not allows(sampler, stop):
        raise StopError(
            f"stop policy {type(stop).__name__} reads the law of every drafted token of a chain, and sampler {sampler.name!r} "
            "drafts a tree or text: choose stop=static or stop=heuristic, or a sampler of token chains"
        )


def most_nodes(sampler: Sampler, stop: StopPolicy) -> int:
    """Nodes of the largest draft a round can have."""
    if not isinstance(sampler.shape, Tree):
        return stop.max_length
    return sum(map(sum, sampler.shape.levels[: stop.max_length]))


def open_target(pair: Pair, rows: list[Row], every: list[Row], limits: Limits, nodes: int) -> Model:
    """The target with the prompts of `rows` in its cache, and room for any request of `every` with drafts of `nodes` tokens."""
    target = pair.open_target(len(rows), max(row.prompt for row in every) + limits.max_new_tokens + nodes + 1)
    _prefill(target, [row.tokens for row in rows])
    return target


def open_drafter(pair: Pair, rows: list[Row], every: list[Row], limits: Limits, nodes: int) -> Model:
    """The drafter with the prompts of `rows` in its cache; rows whose prompt exceeds its context will not draft."""
    limit = pair.context[1]
    for row in every:
        row.stream = list(pair.prompt(row.tokens))
        if limit is not None and len(row.stream) > limit:
            row.stop_drafting()
        row.fed = len(row.stream) - 1
    need = max(len(row.stream) for row in every) + limits.max_new_tokens * pair.expansion + nodes + 1
    drafter = pair.open_drafter(len(rows), need if limit is None else min(need, limit))
    _prefill(drafter, [row.stream for row in rows])
    return drafter


def check_batch(batch: int, requests: int) -> int:
    """Rows of the batch: no more than there are requests. Raises RequestError below 1."""
    if batch < 1:
        raise RequestError(f"batch: expected at least 1 request at once, got {batch}; None decodes all at once")
    return min(batch, requests)


def refillable(coins: Coins) -> KeyedCoins:
    """Coins that can be given to other requests. Raises RequestError for those of a test, made for one batch."""
    if not isinstance(coins, KeyedCoins):
        raise RequestError(f"batch: expected KeyedCoins, whose requests can take turns, got {type(coins).__name__}")
    return coins


def _prefill(model: Model, streams: list[list[int]]) -> None:
    """Feed all but the last token of each row: the last one is the root of the first round, so no logits are needed."""
    if max(len(stream) for stream in streams) > 1:
        tokens, counts = padded([stream[:-1] for stream in streams], torch.device("cpu"))
        model.extend(tokens, counts=counts, logits=False)
