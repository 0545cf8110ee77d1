"""The distributed executor: one request after the other, each on all servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drafters.distributed.backend import Backend, DistributedError, Ledger, drive
from drafters.distributed.backends.thread_servers import ThreadsBackend
from drafters.distributed.coordinator import Coordinator
from drafters.distributed.plan import Plan
from drafters.distributed.request import Request
from drafters.engine.decode import Decoded
from drafters.engine.limits import Limits
from drafters.engine.prefill import check_requests
from drafters.engine.requests import Row
from drafters.engine.transformers_pair import Pair
from drafters.rng.coins import Coins, KeyedCoins
from drafters.samplers.draft import Chain, Sampler, StringProposal
from drafters.stop.policy import StopPolicy


class Cluster(Backend, Protocol):
    """A backend that serves one request after the other."""

    ledger: Ledger

    def open(self, request: Request) -> None:
        """Begin a request on every server and the drafter."""
        ...


# The pair and the number of servers -> a cluster, given back at the end of the block.
MakeCluster = Callable[[Pair, int], AbstractContextManager[Cluster]]


@dataclass(frozen=True)
class Distributed:
    """Distributed speculative inference (Timor et al. 2024, arXiv 2405.14105). See drafters.engine.decode.Executor.

    The output is the sequential executor's own where the target's tokens are (race, exact_match, T = 0), and for chain rejection
    that of its canonical form, which no bonus draw makes depend on the lookahead.

    Args:
        servers: target servers; None: 3.
        lookahead: drafts per verification; None: what the stop policy allows.
        cluster: where they live; threads of this process unless another is given.
    """

    servers: int | None = None
    lookahead: int | None = None
    cluster: MakeCluster = ThreadsBackend

    def runs(self, sampler: Sampler) -> bool:
        """Whether `decode` takes this sampler."""
        return _runs(sampler)

    def decode(
        self, pair: Pair, sampler: Sampler, stop: StopPolicy, prompts: Sequence[Tensor], coins: Coins, limits: Limits
    ) -> Decoded:
        """Continue each prompt.

        Raises:
            DistributedError: a sampler that this executor does not run, coins that cannot be shared, or servers that cannot go on.
            PlanError: a lookahead or a number of servers below 1. RequestError: see `check_requests`.
        """
        check_sampler(sampler)
        plan = Plan(stop.max_length if self.lookahead is None else self.lookahead, self.servers or 3)
        check_requests(pair, [Row(prompt.tolist(), len(prompt)) for prompt in prompts], limits)
        if not isinstance(coins, KeyedCoins):
            raise DistributedError(f"servers need coins that are named by keys, KeyedCoins; got {type(coins).__name__}")
        rows = []
        with self.cluster(pair, plan.servers) as cluster:
            for row, prompt in enumerate(prompts):
                request = Request(
                    tuple(prompt.tolist()), sampler, stop, coins.take(coins.requests[row : row + 1]), limits
                )
                cluster.open(request)
                coordinator = coordinate(request, plan, pair.eos, cluster.ledger)
                drive(coordinator, cluster)
                rows.append(coordinator)
                cluster.ledger.epoch = coordinator.epoch + 1
        return _decoded(rows)


def coordinate(request: Request, plan: Plan, eos: tuple[int, ...], ledger: Ledger) -> Coordinator:
    """The coordinator of a request."""
    limits = request.limits

    def ends(new: list[int]) -> bool:
        return limits.cut(new, 1, eos) is not None

    holds = request.sampler.verifier.needs_law
    return Coordinator(request.prompt, ends, request.end, plan, holds, epoch=ledger.epoch, ids=ledger.ids)


def check_sampler(sampler: Sampler) -> None:
    """Raise DistributedError for a sampler whose verdicts cannot be taken position by position, on any server."""
    if not _runs(sampler):
        raise DistributedError(
            f"sampler {sampler.name!r} does not run distributed: servers verify chains of tokens by race, exact match or "
            "rejection; choose race, exact_match, standard, tli, union, rdk or rdk_exact, or executor=speculative"
        )


def _runs(sampler: Sampler) -> bool:
    chains = sampler.verifier.stepwise and isinstance(sampler.shape, Chain)
    return chains and not isinstance(sampler.proposal, StringProposal)


def _decoded(rows: list[Coordinator]) -> Decoded:
    counts = torch.tensor([[sum(column) for column in zip(*row.rounds, strict=True)] for row in rows])  # (B, 3)
    return Decoded(
        tokens=[torch.tensor(row.new, dtype=torch.int64) for row in rows],
        drafted=counts[:, 0],
        verified=counts[:, 1],
        accepted=counts[:, 2],
        target_forwards=torch.tensor([len(row.rounds) for row in rows]),
        rounds=[row.rounds for row in rows],
    )
