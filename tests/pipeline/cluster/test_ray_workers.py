"""Work on a crew: every piece once, whoever does it, and nothing left behind."""

import pytest

from drafters.distributed.backend import DistributedError
from pipeline.cluster import ray_workers
from tests.pipeline.ray_double import ActorRay


class Squares:
    """Squares numbers, with an offset."""

    def __init__(self, offset):
        self.offset = offset

    def do(self, number):
        if number == 13:
            raise ValueError("thirteen")
        return number**2 + self.offset


@pytest.fixture
def on(monkeypatch):
    """Makes a double the cluster that crews work on."""

    def use(ray):
        monkeypatch.setattr(ray_workers, "connect", lambda address: ray)
        return ray

    return use


def crew(workers, gpus=0.0):
    return ray_workers.Crew(None, workers, gpus, None)


@pytest.mark.parametrize("workers", [1, 2, 4, 40])
def test_every_piece_once(on, workers):
    ray = on(ActorRay(deaths=(3, 5)))
    found = list(ray_workers.results(crew(workers), Squares, (1,), range(2, 12)))
    assert sorted(found) == [(index, (index + 2) ** 2 + 1) for index in range(10)]
    assert ray.killed == min(workers, 10)
    assert ray.made == ray.killed + 2  # the successors of the dead
    assert ray.options["max_task_retries"] > 0
    assert ray.options["max_restarts"] > 0


def test_no_work_starts_nobody(on):
    ray = on(ActorRay())
    assert list(ray_workers.results(crew(3), Squares, (1,), [])) == []
    assert ray.made == 0


def test_an_error_in_the_work_is_an_error_and_the_crew_goes_home(on):
    ray = on(ActorRay())
    with pytest.raises(ValueError, match="thirteen"):
        list(ray_workers.results(crew(2), Squares, (0,), [1, 13, 2]))
    assert ray.killed == 2


def test_what_is_given_up_leaves_nobody(on):
    ray = on(ActorRay())
    begun = ray_workers.results(crew(3), Squares, (0,), range(10))
    next(begun)
    begun.close()
    assert ray.killed == 3


def test_processors_are_shared_where_there_are_no_gpus(on):
    ray = on(ActorRay(cpus=8.0))
    list(ray_workers.results(crew(4), Squares, (0,), range(10)))
    assert (ray.options["num_cpus"], ray.options["num_gpus"]) == (2.0, 0.0)
    list(ray_workers.results(crew(12), Squares, (0,), range(12)))
    assert ray.options["num_cpus"] * 12 <= 8.0  # or some would wait for ever
    list(ray_workers.results(crew(4, gpus=2.0), Squares, (0,), range(10)))
    assert (ray.options["num_cpus"], ray.options["num_gpus"]) == (1.0, 2.0)


def test_how_many():
    def size(ray, workers, gpus):
        return ray_workers.size(ray, crew(workers, gpus))

    assert size(ActorRay(), 7, 0.0) == 7
    assert size(ActorRay(gpus=8.0), None, 2.0) == 4
    assert size(ActorRay(gpus=0.0), None, 1.0) == 1
    assert size(ActorRay(nodes=3), None, 0.0) == 3


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(DistributedError, match="pip install 'drafters"):
        ray_workers.connect(None)
