"""Generation by a crew: the same files as alone, for any number of workers, deaths included."""

import pytest
from omegaconf import OmegaConf

from pipeline.cluster import ray_workers
from pipeline.stages.generate import STAGE
from tests.pipeline.ray_double import ActorRay
from tests.pipeline.stages.test_generate import context, corpus_file, shards  # noqa: F401
from tests.tiers import slow_but


@pytest.mark.parametrize(
    ("workers", "deaths"), slow_but((2, (0,)), [(1, ()), (2, (0,)), (4, (1, 2))], "the stage twice, 2 s")
)
def test_the_same_bytes(workers, deaths, tmp_path, corpus_file, monkeypatch):  # noqa: F811
    alone = context(tmp_path / "alone", corpus_file, seed=3)
    STAGE.run(alone)
    ray = ActorRay(deaths)
    monkeypatch.setattr(ray_workers, "connect", lambda address: ray)
    shared = context(tmp_path / "shared", corpus_file, seed=3)
    hardware = {"backend": "ray", "address": None, "workers": workers, "gpus_per_worker": 0.0}
    shared.cfg.update(OmegaConf.create({"hardware": hardware, "threads": None}))
    STAGE.run(shared)
    assert len(shards(shared.out)) == 3
    assert shards(shared.out) == shards(alone.out)
    assert ray.calls == 3
    (shared.out / "shard-00001.safetensors").unlink()  # as a killed driver leaves it
    STAGE.run(shared)
    assert ray.calls == 4
    assert shards(shared.out) == shards(alone.out)
