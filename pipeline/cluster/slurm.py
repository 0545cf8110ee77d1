"""A stage as a job of a Slurm cluster: the same command, run on a node, waited for here (submitit).

A job that is preempted or runs into its time limit is sent again and goes on where it was: stages resume by themselves.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.errors import PipelineError
from pipeline.runner.stage import say

PAUSE = 2.0  # seconds between two looks at the job
SHOWN = 15  # lines of a failed job's errors


class Command:
    """A command line in a folder; its exit status is the result."""

    def __init__(self, command: Sequence[str], folder: str):
        self.command, self.folder = list(command), folder

    def __call__(self) -> int:
        """Run it; what it prints goes where the job's output goes."""
        return subprocess.run(self.command, cwd=self.folder, check=False).returncode

    def checkpoint(self) -> Any:
        """What submitit sends again after a preemption: the same command."""
        return _submitit().helpers.DelayedSubmission(self)


def arguments_inside(arguments: Sequence[str], inside: str) -> list[str]:
    """The command line's overrides as the job is given them: hardware is now what is there."""
    kept = [item for item in arguments if not item.lstrip("+~").startswith(("hardware=", "hardware."))]
    return [*kept, f"hardware={inside}"]


def run_there(arguments: Sequence[str], inside: str, options: Mapping[str, Any], runs: Path, console: Console) -> None:
    """Submit `python -m pipeline ARGUMENTS` and wait.

    Args:
        inside: the file of conf/hardware that holds within the job. options: of submitit's executor; None values are left out.

    Raises:
        PipelineError: no submitit, no Slurm, or a job that failed.
    """
    submitit = _submitit()
    options = {name: value for name, value in options.items() if value is not None}
    cluster = options.pop("cluster", "slurm")
    folder = (runs / "slurm").resolve()
    command = [sys.executable, "-m", "pipeline", *arguments_inside(arguments, inside)]
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**options)
        job = executor.submit(Command(command, str(Path.cwd())))
    except (RuntimeError, ValueError, TypeError, NameError, OSError, subprocess.SubprocessError) as error:
        raise PipelineError(
            f"hardware=slurm: no job was submitted: {error}; run this where `sbatch` works, or see hardware.slurm.* "
            f"(python -m pipeline stage=count hardware=slurm --cfg job)"
        ) from error
    say(console, f"job {job.job_id}: {job.paths.stdout}", whole=True)
    try:
        _follow(job, console)
    except KeyboardInterrupt:
        say(console, f"job {job.job_id} goes on; `scancel {job.job_id}` ends it")
        raise
    failed = job.exception()
    if failed is not None:
        raise PipelineError(f"job {job.job_id} failed: {str(failed)[:500]}; see {job.paths.stderr}")
    if status := job.result():
        said = _text(job.paths.stderr).strip().splitlines()[-SHOWN:]
        raise PipelineError(f"job {job.job_id} ended with status {status}:\n" + "\n".join(said))


def _follow(job: Any, console: Console) -> None:
    """Show the job's output as it comes, until it is done."""
    shown = 0
    while True:
        done = job.done()
        text = _text(job.paths.stdout)
        whole = text if done else text[: text.rfind("\n") + 1]
        if len(whole) > shown:
            lines = [line for line in whole[shown:].splitlines() if not line.startswith("submitit ")]
            say(console, "\n".join(lines), whole=True)
            shown = len(whole)
        if done:
            return
        time.sleep(PAUSE)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _submitit() -> Any:
    try:  # by name: an extra that only those who ask for it need
        return importlib.import_module("submitit")
    except ModuleNotFoundError:
        raise PipelineError(
            "submitit is not installed: pip install 'drafters[slurm]' (in a clone: .venv/bin/pip install -c constraints.txt submitit)"
        ) from None
