"""Evaluation on Ray: a queue of cells over processes that each hold target and drafters.

A cell is one prompt under all contenders, in turns: speed is compared on one device at one time, whichever it is. Records add up, so
that their order says nothing, and all but their seconds are the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from eval.run.configurations import Contender, Drafter
from eval.run.records import Configuration, Record, parse
from eval.run.trials import Task
from pipeline.cluster import ray_workers
from pipeline.evaluate import setup
from pipeline.evaluate.cells import Cell, Make

RankLaws = Mapping[tuple[str, float], Sequence[float]]  # by drafter and temperature: shapes of trees hang on them


class Evaluator:
    """Target, drafters and contenders in a process of its own."""

    def __init__(
        self,
        settings: dict[str, Any],
        package: str,
        rank_laws: RankLaws,
        threads: int | None,
        chosen: Collection[Configuration],
    ):
        if threads is not None:
            torch.set_num_threads(threads)
        cfg = OmegaConf.create(settings)
        bench = setup.opened(cfg, Path(package))

        def rank_law(drafter: Drafter, temperature: float) -> Sequence[float] | None:
            return rank_laws.get((drafter.name, temperature))

        self._tasks, self._warm = bench.tasks, False
        self._harness = bench.harness(
            cfg, [item for item in bench.contenders(cfg, rank_law) if item.configuration in chosen]
        )

    def do(self, cell: tuple[int, int]) -> list[str]:
        """Records as JSON of a repeat and the number of a prompt in the suite's sample."""
        repeat, number = cell
        task = self._tasks[number]
        if not self._warm:
            self._harness.warm_up(task)
            self._warm = True
        return [record.to_json() for record in self._harness.trial(task, repeat)]


def cells(
    cfg: DictConfig, package: Path, rank_laws: RankLaws, tasks: Sequence[Task], contenders: Sequence[Contender]
) -> Make:
    """Cells of these prompts and contenders, measured on the cluster of `hardware`. Raises DistributedError without Ray."""
    kept = [item.configuration for item in contenders]

    def make(
        chosen: Sequence[Cell], advance: Callable[[], None], late: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Record]]]:
        ray = ray_workers.connect(cfg.hardware.address)
        gpus = cfg.hardware.gpus_per_worker
        workers = ray_workers.size(ray, cfg.hardware.workers, gpus)
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        arguments = settings, str(package.resolve()), dict(rank_laws), ray_workers.threads(cfg), kept
        pieces = [(cell.repeat, tasks[cell.task].number) for cell in chosen]
        for index, lines in ray_workers.results(ray, Evaluator, arguments, pieces, workers, gpus):
            for _ in lines:
                advance()
            yield index, [parse(line) for line in lines]
            if late():
                return

    return make
