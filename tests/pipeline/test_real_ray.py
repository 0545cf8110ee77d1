"""The crew on Ray itself: processes that die, and shards that are the same bytes. Run by `make test-ray`."""

import os
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.cluster import ray_workers
from pipeline.stages.generate import STAGE
from tests.pipeline.stages.test_generate import context, corpus_file, shards  # noqa: F401

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not os.environ.get("DRAFTERS_TEST_RAY"), reason="starts Ray processes: make test-ray"),
]


class Mortal:
    """Doubles numbers; the first process that is given a 3 dies of it."""

    def __init__(self, grave: str):
        self.grave = Path(grave)

    def do(self, number: int) -> int:
        if number == 3 and not self.grave.exists():
            self.grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number


@pytest.fixture(scope="module")
def ray():
    made = ray_workers.connect(None)
    yield made
    made.shutdown()


def test_the_work_of_a_killed_process_is_done_again(ray, tmp_path):
    grave = tmp_path / "grave"
    found = sorted(ray_workers.results(ray_workers.Crew(None, 2, 0.0, None), Mortal, (str(grave),), range(8)))
    assert grave.exists()
    assert found == [(number, 2 * number) for number in range(8)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_generation_makes_the_same_bytes(ray, workers, tmp_path, corpus_file):  # noqa: F811
    alone, shared = (context(tmp_path / name, corpus_file, seed=3) for name in ("alone", "shared"))
    STAGE.run(alone)
    hardware = {"backend": "ray", "address": None, "workers": workers, "gpus_per_worker": 0.0}
    shared.cfg.update(OmegaConf.create({"hardware": hardware, "threads": 1}))
    STAGE.run(shared)
    assert shards(shared.out) == shards(alone.out)
