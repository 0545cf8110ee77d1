"""Calibration, training that is killed and goes on, two processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from drafters.stop.classifier import Classifier
from drafters.stop.features import NAMES
from pipeline.disco.stop_model import component, expected_calibration_error, platt, with_parameters
from pipeline.disco.traces.trace_rows import Rows
from pipeline.disco.train import LAST, fit

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "hidden": [8], "lr": 0.01, "weight_decay": 0.0, "batch": 64, "epochs": 4, "patience": 9, "devices": 1,
    "accelerator": "cpu", "strategy": "ddp_spawn",
}  # fmt: skip


def rows(count, seed):
    """Drafts whose chance is a known function of two features; the second output's too."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, len(NAMES), generator=generator)
    chance = torch.stack([1.5 * features[:, 0] - 0.5, features[:, 1] + 0.3], 1).sigmoid()
    happened = (torch.rand(count, 2, generator=generator) < chance).long()
    known = torch.ones(count, 2, dtype=torch.bool)
    known[:, 1] = happened[:, 0] == 1
    return Rows(features, happened.float(), happened, known)


def train(folder, **changes):
    return fit(rows(512, 0), rows(256, 1), OmegaConf.create(SETTINGS | changes), folder, seed=0, loggers=[])


def test_platt_recovers_a_known_distortion_and_calibrates():
    generator = torch.Generator().manual_seed(0)
    true = 1.3 * torch.randn(60_000, generator=generator)
    happened = (torch.rand(60_000, generator=generator) < true.sigmoid()).long()
    said = (true - 0.4) / 2.5  # too timid, and shifted
    slope, shift = platt(said[:40_000], happened[:40_000])
    assert (slope, shift) == (pytest.approx(2.5, abs=0.1), pytest.approx(0.4, abs=0.06))
    rest, label = said[40_000:], happened[40_000:]
    assert expected_calibration_error((slope * rest + shift).sigmoid(), label) < 0.03
    assert expected_calibration_error(rest.sigmoid(), label) > 0.1


def test_the_trained_component_is_calibrated_and_fits_a_package(tmp_path):
    module = train(tmp_path, epochs=12)
    numbers = {"disco_threshold": 0.4, "disco_max_length": 10.0, "c": 0.1, "rate": 1.5, "first": 0.6}
    model = with_parameters(component(module, rows(4000, 1), [8]), {0.0: numbers, 0.7: numbers}, {"sampler": "tli"})
    assert {"c.0", "c.0.7", "slope.next"} <= set(model.config["parameters"])
    test = rows(20_000, 2)
    said = Classifier(model)(test.features)
    for output in range(2):
        known = test.known[:, output]
        assert expected_calibration_error(said[known, output], test.happened[known, output]) < 0.03


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
from test_train import train
from pipeline.disco import train as training
epochs = []
class Killing(training.EpochBar):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
training.EpochBar = Killing
train(Path({folder!r}))
"""


@pytest.mark.floats
@pytest.mark.slow("a training killed in a process of its own, 5 s")
def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    whole = train(tmp_path / "whole").state_dict()
    script = SCRIPT.format(root=str(ROOT), here=str(Path(__file__).parent), folder=str(tmp_path / "killed"))
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # equal bits are those of equal numbers of threads
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=os.environ | threads)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]
    left = torch.load(tmp_path / "killed" / LAST, weights_only=True)
    assert left["epoch"] == 1
    resumed = train(tmp_path / "killed").state_dict()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items() if name.startswith("layers"))


DDP = """
import json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
from test_train import train, rows
from pipeline.disco.train import loss_of
if __name__ == "__main__":
    module = train(Path({folder!r}), devices=2, epochs=3)
    test = rows(2000, 5)
    print(json.dumps(float(loss_of(module(test.features), test.label, test.known))))
"""


@pytest.mark.slow("three processes that import torch and lightning, 20 s")
def test_two_processes_learn_what_one_learns(tmp_path):
    from pipeline.disco.train import loss_of

    test = rows(2000, 5)
    alone = float(loss_of(train(tmp_path / "one", epochs=3)(test.features), test.label, test.known))
    path = tmp_path / "two.py"
    path.write_text(DDP.format(root=str(ROOT), here=str(Path(__file__).parent), folder=str(tmp_path / "two")))
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-800:]
    together = json.loads(done.stdout.splitlines()[-1])
    untrained = 2 * 0.6931
    assert together < untrained - 0.02  # with half as many steps, each on twice as many rows
    assert alone < untrained - 0.02
