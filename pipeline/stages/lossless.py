"""lossless: the gate that proves every sampler of the catalog, and its certificate (see eval.lossless)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omegaconf import DictConfig

from drafters.models.devices import choose_device
from eval.lossless import prove as lossless
from eval.lossless.certificate import code_hash
from pipeline.errors import PipelineError
from pipeline.runner.stage import Context, Stage


@dataclass
class LosslessConfig:
    """The settings of stage=lossless: how the gate runs; what it proves follows from the code."""

    workers: int | None = None  # processes; null: one per core, at most 8


def run(context: Context) -> None:
    """Prove, print, and write `certificate.json`. Raises PipelineError where a sampler or a planted bug fails."""
    workers = context.cfg.lossless.workers or min(os.cpu_count() or 1, 8)
    device = choose_device(context.cfg.device).type

    @contextmanager
    def bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
        with context.progress(description, total) as progress:
            yield progress.advance

    found, passed = lossless.prove(device, workers, context.console, bar)
    if not passed:
        raise PipelineError(
            "the losslessness gate failed, see above: the code in drafters/ or conf/sampler is not lossless as it stands; "
            "no certificate was written"
        )
    lossless.save(found, context.out)


def key_config(cfg: DictConfig) -> dict[str, object]:
    """The code that is proved, and where."""
    return {"code": code_hash(), "device": choose_device(cfg.device).type}


STAGE = Stage(name="lossless", run=run, config=key_config)
