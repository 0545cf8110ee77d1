"""The command line: ``python -m pipeline stage=<name> [pair=<name>] [key=value ...]``."""

from __future__ import annotations

import os
import sys

import hydra
from omegaconf import DictConfig
from rich.console import Console

from pipeline import config
from pipeline.errors import PipelineError
from pipeline.runner import Runner


def main() -> None:
    """Compose, validate and run; print errors the user can put right without a traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing a traceback of its own
    config.register()
    console = Console(stderr=True)
    try:
        _run()
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from here")
        sys.exit(130)
    except PipelineError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)


@hydra.main(config_path=str(config.CONF), config_name="config", version_base="1.3")
def _run(cfg: DictConfig) -> None:
    cfg = config.finish(cfg)
    Runner(cfg, Console()).run(cfg.stage, only=cfg.only)


if __name__ == "__main__":
    main()
