"""The command line: ``python -m pipeline stage=<name> [pair=<name>] [key=value ...]``, or one of COMMANDS and its arguments.

Exit status: 0 done, 1 unexpected error (traceback in ``runs/logs``), 2 something the user can put right, 130
interrupted.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console

from drafters.errors import DraftersError
from pipeline.config import hydra_config
from pipeline.config.revisions import pin
from pipeline.config.settings import CONF, hardware_of, stand_ins
from pipeline.doctor.before_run import before_run
from pipeline.errors import redact
from pipeline.runner.discovery import stage_names, suggest
from pipeline.runner.library_warnings import show_library_warnings
from pipeline.runner.runner import Runner
from pipeline.runner.stage import say

LOGS = Path("runs/logs")
# What is no stage; each is the `main` of a module, which takes the words behind its name.
COMMANDS: Mapping[str, str] = {
    "doctor": "pipeline.doctor.doctor",
    "inspect": "pipeline.inspect",
    "track": "pipeline.tracking",
    "watch": "pipeline.watch.watch",
}
WITHOUT_PAIR = ("pretrain", "lossless")  # stages that read no text for a pair


def main() -> int:
    """Run the command line and return its exit status."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing tracebacks of its own
    name, *words = sys.argv[1:] or [""]
    if name in COMMANDS:
        return _reported(lambda: import_module(COMMANDS[name]).main(words))
    if name and "=" not in name and not name.startswith("-"):
        hint = f"stage={name}" if name in stage_names() else f"stage=<name>, or a command; {suggest(name, COMMANDS)}"
        return _fail(f"error: {name}: expected {hint}", 2)
    return _reported(_compose)


def _compose() -> None:
    hydra_config.register()
    _run()


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _run(cfg: DictConfig) -> None:
    # Reported here, because Hydra adds a line of its own to an exception that leaves a job.
    if status := _reported(lambda: _execute(hydra_config.finish(cfg))):
        sys.exit(status)


def _execute(cfg: DictConfig) -> None:
    hydra_config.check(cfg)
    pinned = pin(cfg, console())
    if cfg.hardware.backend == "slurm":
        from pipeline.cluster.slurm import run_there  # here: submitit is an extra

        hardware = hardware_of(cfg)
        run_there([*sys.argv[1:], *pinned], hardware.inside, hardware.slurm, Path(cfg.runs_dir), console())
        return
    screen = console()
    show_library_warnings(screen)
    if cfg.stage not in WITHOUT_PAIR:
        for line in stand_ins(cfg):
            say(screen, f"warning: {line}")
    Runner(cfg, screen, before=before_run).run(cfg.stage, only=cfg.only)


def console() -> Console:
    """The console on stdout. It breaks sentences to the width of a terminal; what reads a pipe gets whole lines."""
    return Console(soft_wrap=not sys.stdout.isatty())


def _reported(act: Callable[[], int | None]) -> int:
    """Run ``act``, say what went wrong without a traceback, and return the exit status."""
    try:
        return act() or 0
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from here", 130)
    except DraftersError as error:
        return _fail(f"error: {error}", 2)
    except Exception as error:
        if (explained := hydra_config.explain(error)) is not None:
            return _fail(f"error: {explained}", 2)
        return _fail(f"error: {type(error).__name__}: {error}\ntraceback: {_log_traceback()}", 1)


def _fail(message: str, status: int) -> int:
    sys.stdout.flush()
    print(redact(message), file=sys.stderr)
    return status


def _log_traceback() -> Path:
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.log"
    path.write_text(redact(f"{sys.argv}\n\n{traceback.format_exc()}"))
    return path


if __name__ == "__main__":
    sys.exit(main())
