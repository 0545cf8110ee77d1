"""Stages as cluster jobs, tried with submitit's local executor: real processes, no Slurm."""

import io

import pytest
from rich.console import Console

from pipeline.cluster import slurm
from pipeline.errors import PipelineError

HARDWARE = {"inside": "cpu", "slurm": {"cluster": "local", "timeout_min": 2, "slurm_partition": None}}


def run(tmp_path, monkeypatch, code: str) -> str:
    """`python -c code` in the place of `python -m pipeline ...`."""
    said = io.StringIO()
    monkeypatch.setattr(slurm, "PAUSE", 0.1)
    real = slurm.Command
    monkeypatch.setattr(slurm, "Command", lambda command, folder: real([command[0], "-c", code, *command[3:]], folder))
    slurm.run_there(["stage=count"], *HARDWARE.values(), tmp_path, Console(file=said, width=200))
    return said.getvalue()


def test_a_job_is_followed_to_its_end(tmp_path, monkeypatch):
    said = run(tmp_path, monkeypatch, "import sys; print('counted', sys.argv[1:])")
    assert "counted ['stage=count', 'hardware=cpu']" in said
    assert str(tmp_path / "slurm") in said


def test_a_job_that_fails_says_why(tmp_path, monkeypatch):
    with pytest.raises(PipelineError, match=r"ended with status 2:\n(.|\n)*no such corpus"):
        run(tmp_path, monkeypatch, "import sys; print('error: no such corpus', file=sys.stderr); sys.exit(2)")


def test_the_job_is_given_the_same_command_without_its_hardware():
    given = ["stage=eval", "hardware=slurm", "hardware.slurm.timeout_min=5", "+hardware.slurm.qos=high", "seed=1"]
    assert slurm.arguments_inside(given, "node") == ["stage=eval", "seed=1", "hardware=node"]


def test_no_slurm_here(tmp_path):

    with pytest.raises(PipelineError, match=r"no job was submitted: .*sbatch"):
        slurm.run_there([], "node", {"cluster": "slurm"}, tmp_path, Console(file=io.StringIO()))


def test_no_submitit(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(PipelineError, match=r"pip install 'drafters\[slurm\]'"):
        slurm.run_there([], *HARDWARE.values(), tmp_path, Console(file=io.StringIO()))
