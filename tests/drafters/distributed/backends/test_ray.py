"""The Ray backend on a double of Ray: threads for actors, futures for references, deaths on command. Real Ray: `make test-ray`."""

import os
import threading
import types
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import pytest
import torch

from drafters.distributed.backend import DistributedError
from drafters.distributed.backends import ray
from drafters.distributed.backends.ray import DRAFTER, RayCluster, RayClusters, require_ray
from drafters.distributed.executor import Distributed
from drafters.engine.limits import Limits
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static
from eval.lossless.toys.table_models import full_pair


class RayActorError(Exception):
    pass


class RayTaskError(Exception):
    def __init__(self, cause):
        super().__init__(cause)
        self.cause = cause


class Actor:
    """One thread per concurrency group; a killed actor fails what is pending and whatever comes."""

    def __init__(self, kind, groups, arguments):
        self.object, self.dead, self.pending = kind(*arguments), False, []
        self.pools = {name: ThreadPoolExecutor(size) for name, size in groups.items()}

    def __getattr__(self, name):
        def options(concurrency_group):
            return types.SimpleNamespace(remote=lambda *arguments: self.call(concurrency_group, name, arguments))

        return types.SimpleNamespace(options=options)

    def call(self, group, name, arguments):
        answer = Future()
        self.pending.append(answer)

        def work():
            try:
                value, error = getattr(self.object, name)(*arguments), None
            except Exception as problem:
                value, error = None, RayTaskError(problem)
            if not answer.done():
                answer.set_exception(error) if error else answer.set_result(value)

        if self.dead:
            answer.set_exception(RayActorError())
        else:
            self.pools[group].submit(work)
        return answer

    def kill(self):
        self.dead = True
        for answer in self.pending:
            if not answer.done():
                answer.set_exception(RayActorError())
        if hasattr(self.object, "_loop"):
            self.object._loop.close()
            self.object._drafted.put(RuntimeError("killed"))
        for pool in self.pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


class FakeRay:
    exceptions = types.SimpleNamespace(RayActorError=RayActorError, RayTaskError=RayTaskError)

    def remote(self, concurrency_groups, **resources):
        return lambda kind: types.SimpleNamespace(remote=lambda *arguments: Actor(kind, concurrency_groups, arguments))

    def put(self, value):
        return value

    def get(self, ref):
        return ref.result()

    def wait(self, refs, num_returns, timeout):
        done, _ = wait(refs, timeout, FIRST_COMPLETED)
        return list(done)[:num_returns], None

    def kill(self, actor):
        actor.kill()


PAIR = full_pair(5, 3)
PROMPTS = [torch.tensor(ids) for ids in ([1, 2, 3], [0], [3, 3])]
LIMITS = Limits(15)


def decode(cluster, name):
    sampler = build(name, PAIR.vocab)
    return [
        tokens.tolist()
        for tokens in Distributed(2, cluster=cluster)
        .decode(PAIR, sampler, Static(2), PROMPTS, KeyedCoins(1, torch.arange(3)), LIMITS)
        .tokens
    ]


@pytest.fixture
def clusters(monkeypatch):
    monkeypatch.setattr(ray, "require_ray", lambda address: FakeRay())
    made = RayClusters()
    yield made
    made.close()


def threads(name):
    sampler = build(name, PAIR.vocab)
    found = Distributed(1).decode(PAIR, sampler, Static(3), PROMPTS, KeyedCoins(1, torch.arange(3)), LIMITS)
    return [tokens.tolist() for tokens in found.tokens]


@pytest.mark.parametrize("name", ["race", "standard"])
def test_the_same_tokens_on_actors_that_stay(clusters, name):
    assert decode(clusters, name) == threads(name)
    assert decode(clusters, name) == threads(name)  # epochs and ids go on, nothing of the first call is mistaken
    assert len(clusters._known) == 1


@pytest.mark.parametrize("name", ["race", "standard"])
@pytest.mark.parametrize("number", [0, 1, DRAFTER])
def test_a_death_changes_nothing(clusters, name, number):
    with clusters(PAIR, 2) as cluster:
        event, real = threading.Event(), cluster.next

        def next_and_die():
            if not event.is_set():
                event.set()
                cluster.kill(number)
            return real()

        cluster.next = next_and_die
    assert decode(clusters, name) == threads(name)
    assert event.is_set()
    assert not cluster.actors[number].dead


def test_actors_that_keep_dying_are_given_up(clusters, monkeypatch):
    monkeypatch.setattr(ray, "RESTARTS", 3)
    with clusters(PAIR, 2) as cluster:
        real = cluster._start

        def start(number):
            actor = real(number)
            actor.kill()
            return actor

        cluster._start = start
        cluster.kill(0)
        with pytest.raises(DistributedError, match="servers died"):
            decode(clusters, "race")


def test_an_exception_in_an_actor_is_told(clusters):
    with clusters(PAIR, 2) as cluster:
        for actor in cluster.actors.values():
            if hasattr(actor.object, "_server"):
                actor.object._server.verify = lambda *arguments: 1 / 0
        with pytest.raises(DistributedError, match="division by zero"):
            decode(clusters, "race")


def test_without_ray_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(ray.importlib, "import_module", missing)
    with pytest.raises(DistributedError, match=r"pip install 'drafters\[ray\]'"):
        require_ray()


@pytest.mark.ray
def test_real_ray():
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'drafters[ray]'")
    if not os.environ.get("DRAFTERS_TEST_RAY"):
        pytest.skip("starts processes for a minute: make test-ray")
    made = RayClusters()
    try:
        for name in ("race", "standard"):
            assert decode(made, name) == threads(name)
        with made(PAIR, 2) as cluster:
            assert isinstance(cluster, RayCluster)
            for number in (1, DRAFTER):
                cluster.kill(number)
                assert decode(made, "race") == threads("race")
    finally:
        made.close()
