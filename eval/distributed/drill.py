"""The distributed executor on real clocks, real processes and real faults.

sleeping  forwards that sleep: measured SI / DSI against virtual time
identity  the embedded pair: are tokens those of the sequential executor, under random faults and a killed server?
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from drafters.distributed.backends.thread_servers import ThreadsBackend
from drafters.distributed.executor import Distributed, MakeCluster
from drafters.distributed.plan import Plan, servers_needed
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import Pair, pair_of
from drafters.io.paths import ZOO
from drafters.models.pair import load_pair, vocabulary_size
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from eval.distributed.faults import Faults, Faulty
from eval.distributed.paper_table import ROWS, TOKENS
from eval.distributed.slow_pair import SleepingPair
from eval.distributed.virtual_time import Delays, coins, run_dsi, run_si
from eval.suites import suite

KILL_EVERY = 100  # requests, on Ray: a process takes seconds to come back
CHOSEN = (6, 7, 9)  # rows of the table: at k = 1 two target servers each, so that a small machine holds them


class Drill(enum.Enum):
    """What is tried; see the module."""

    sleeping = "sleeping"
    identity = "identity"


class DrillBackend(enum.Enum):
    """Where servers run: threads of this process, or Ray's processes."""

    threads = "threads"
    ray = "ray"


@dataclass
class DrillOptions:
    """The options of a drill."""

    drill: Drill  # sleeping or identity
    backend: DrillBackend = DrillBackend.threads  # threads or ray
    requests: int = 0  # 0: 4 sleeping, 500 identity
    scale: float = 5.0  # sleeping: forwards take so many times the paper's
    new: int = 24  # identity: new tokens per request
    sampler: str = "race"  # identity: race, exact_match or standard


def sleeping(clusters: MakeCluster, scale: float, requests: int) -> float:
    """Print measured and virtual SI / DSI of three rows; returns the largest relative difference."""
    worst, race = 0.0, build("race", identity(2))
    print(f"{'row':34}{'k':>3}{'SP':>4}{'SI s':>9}{'DSI s':>9}{'measured':>10}{'virtual':>9}{'differ':>8}")
    for row in (ROWS[index] for index in CHOSEN):
        t, d = scale * row.t / 1e3, scale * row.d / 1e3
        servers = servers_needed(t, d, 1)
        pair = SleepingPair(t, d, row.a, TOKENS)
        executor = Distributed(servers, 1, clusters)
        executor.decode(pair, race, Static(1), [torch.tensor([1])], _coins(1), Limits(1, Sampling(0.0)))  # actors start
        seconds = {"si": 0.0, "dsi": 0.0, "virtual si": 0.0, "virtual dsi": 0.0}
        for seed in range(requests):
            arguments = pair, race, Static(1), [torch.tensor([seed])], _coins(1), Limits(TOKENS, Sampling(0.0))
            seconds["si"] += _timed(partial(speculative, *arguments))
            seconds["dsi"] += _timed(partial(executor.decode, *arguments))
            right = coins(row.a, TOKENS, seed)
            seconds["virtual si"] += run_si(right, Delays(t, d), 1, TOKENS).seconds
            seconds["virtual dsi"] += run_dsi(right, Delays(t, d), Plan(1, servers), TOKENS).seconds
        measured, virtual = seconds["si"] / seconds["dsi"], seconds["virtual si"] / seconds["virtual dsi"]
        worst = max(worst, abs(measured / virtual - 1))
        name = f"{row.target}/{row.drafter} {row.data}"
        took = f"{seconds['si']:9.2f}{seconds['dsi']:9.2f}"
        print(f"{name:34}{1:3}{servers:4}{took}{measured:10.2f}{virtual:9.2f}{measured / virtual - 1:8.1%}", flush=True)
    return worst


def check_identity(pair: Pair, prompts: list[torch.Tensor], clusters: MakeCluster, new: int, sampler: str) -> int:
    """Print how many requests gave other tokens than the sequential executor; returns that number."""
    made, limits = build(sampler, identity(_size(pair))), Limits(new)
    started, different = time.perf_counter(), 0
    for number, prompt in enumerate(prompts):
        keyed = KeyedCoins(0, torch.tensor([number]))
        if made.verifier.positional:
            expected = autoregressive(pair, [prompt], keyed, limits, made.verifier).tokens[0]
        else:  # chain rejection: one server, one draft at a time, no faults
            expected = Distributed(1, 1).decode(pair, made, Static(1), [prompt], keyed, limits).tokens[0]
        found = Distributed(2, 4, clusters).decode(pair, made, Static(4), [prompt], keyed, limits).tokens[0]
        different += not torch.equal(found, expected)
        if (number + 1) % 50 == 0:
            print(f"{number + 1} requests, {different} different, {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{sampler}: {len(prompts)} requests of {new} tokens: {different} differ from the sequential executor")
    return different


def main(options: DrillOptions) -> int:
    """Run a drill; the exit status is 1 where it failed."""
    requests = options.requests or (4 if options.drill is Drill.sleeping else 500)
    with _clusters(options.backend) as clusters:
        if options.drill is Drill.sleeping:
            worst = sleeping(clusters, options.scale, requests)
            print(f"largest difference of measured and virtual SI / DSI: {worst:.1%} (expected: at most 15 %)")
            return int(worst > 0.15)
        pair, prompts = _embedded(requests)
        ray = options.backend is DrillBackend.ray
        faulty = Faulty(clusters, Faults(), 1.0 if ray else 0.1, kill_every=KILL_EVERY if ray else None)
        return int(check_identity(pair, prompts, faulty, options.new, options.sampler) > 0)


@contextmanager
def _clusters(backend: DrillBackend) -> Iterator[MakeCluster]:
    if backend is DrillBackend.threads:
        yield ThreadsBackend
        return
    from drafters.distributed.backends.ray import RayClusters

    clusters = RayClusters()
    try:
        yield clusters
    finally:
        clusters.close()


def _embedded(requests: int) -> tuple[Pair, list[torch.Tensor]]:
    """The embedded pair, and prompts: beginnings of its suite's."""
    models = load_pair(target=ZOO / "target", drafter=ZOO / "drafter", device="cpu", dtype="fp32")
    found = suite.load(suite.PYCODE, models.target_tokenizer, None, 0)
    ids = [suite.encode(prompt, models.target_tokenizer, 64) for prompt in found]
    return pair_of(models), [ids[number % len(ids)] for number in range(requests)]


def _size(pair: Pair) -> int:
    return vocabulary_size(pair.target.config)  # type: ignore[attr-defined]


def _coins(rows: int) -> KeyedCoins:
    return KeyedCoins(0, torch.arange(rows))


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
