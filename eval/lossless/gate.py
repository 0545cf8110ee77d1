"""The gate: every sampler of the catalog through every kind of proof, and every planted bug through what can see it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import torch

from drafters.samplers.catalog import CATALOG
from eval.lossless import invariance
from eval.lossless.exact.exact_cells import TOLERANCE, cells
from eval.lossless.mutants.matrix import MUTANTS, Finding, combinations, examine
from eval.lossless.pathwise import path_cells
from eval.lossless.sampled import Evidence, evidence, subject
from eval.stats.chi_square import ALPHA

PARTS = 3  # of one sampler's exact law: tasks of like length keep all processes busy


@dataclass
class Proof:
    """What was found out about one sampler; numbers stay None where that kind of proof does not apply."""

    cells: int = 0
    exact_error: float | None = None
    path_cells: int = 0
    mismatches: int = 0
    evidence: Evidence | None = None
    greedy_differences: int = 0
    batch_differences: int = 0
    impossible_tokens: int = 0
    relabelling_error: float = 0.0
    mutants: int = 0
    mutants_killed: int = 0

    @property
    def status(self) -> str:
        """exact, pathwise, or not_run where neither proof covers the sampler or one of its tests failed."""
        if self.failures:
            return "not_run"
        return "pathwise" if self.path_cells else "exact"

    @property
    def failures(self) -> list[str]:
        """What speaks against the sampler, in words."""
        found = []
        if not self.cells and not self.path_cells:
            found.append("no toy pair of the gate covers it: add one to eval/lossless/toys/toy_pairs.py")
        if self.exact_error is not None and self.exact_error > TOLERANCE:
            found.append(f"exact law off by {self.exact_error:.1e}, more than {TOLERANCE:.0e}")
        if self.mismatches:
            found.append(f"{self.mismatches} outputs are not plain race decoding's")
        if self.evidence is None:
            found.append("no samples were drawn")
        elif not self.evidence.passed:
            worst = min(self.evidence.p_values, key=self.evidence.p_values.__getitem__)
            found.append(f"samples reject the target's law: {worst}, p = {self.evidence.p_values[worst]:.1e} < {ALPHA}")
        for count, what in (
            (self.greedy_differences, "outputs at temperature 0 are not greedy decoding's"),
            (self.batch_differences, "outputs depend on the rest of the batch"),
            (self.impossible_tokens, "tokens of probability 0 under extreme coins"),
            (self.mutants - self.mutants_killed, "planted bugs were not found, or right code was taken for one"),
        ):
            if count:
                found.append(f"{count} {what}")
        if self.relabelling_error > TOLERANCE:
            found.append(f"the law changes by {self.relabelling_error:.1e} when tokens are renumbered")
        return found

    def entry(self) -> dict[str, Any]:
        """As the certificate has it."""
        sampled = self.evidence
        return {
            "status": self.status,
            "cells": self.cells or self.path_cells,
            "exact_error": self.exact_error,
            "n": sampled.n if sampled else 0,
            "detectable_tv": sampled.detectable_tv if sampled else None,
            "power": sampled.power if sampled else None,
            "p_values": sampled.p_values if sampled else {},
            "mutants": self.mutants,
            "mutants_killed": self.mutants_killed,
            "failures": self.failures,
        }


@dataclass
class Verdicts:
    """Of a whole run."""

    proofs: dict[str, Proof]
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Every sampler is proved and every planted bug found."""
        return not any(proof.failures for proof in self.proofs.values()) and all(f.passed for f in self.findings)


@dataclass(frozen=True)
class _Task:
    """A function of this module with its arguments, for another process."""

    act: Callable[..., Any]
    arguments: tuple[Any, ...]
    weight: float  # relative seconds: the longest go first


def exact_part(name: str, part: int) -> tuple[int, float]:
    """Every PARTS-th cell of a sampler: how many, and the largest error."""
    errors = [cell.error() for cell in list(cells(name))[part::PARTS]]
    return len(errors), max(errors, default=0.0)


def paths(name: str, device: str) -> tuple[int, int]:
    """Cells of a coupled sampler, and outputs that are not plain race decoding's."""
    found = [cell.mismatches(device) for cell in path_cells(name)]
    return len(found), sum(found)


def invariances(name: str) -> tuple[int, int, int, float]:
    """Of one sampler: see eval.lossless.invariance."""
    return (
        invariance.greedy_identity(name),
        invariance.batch_dependence(name),
        invariance.extreme_coins(name),
        invariance.relabelling_error(name),
    )


def run(
    samplers: Iterable[str] | None = None,
    device: str = "cpu",
    workers: int = 2,
    advance: Callable[[int], None] = lambda done: None,
) -> Verdicts:
    """Run the gate on `samplers` (None: the catalog and all planted bugs) in `workers` processes.

    `device` is where samples are drawn and races are run; laws are enumerated on the CPU. `advance` is told of every
    finished task, see `size`.
    """
    names = list(CATALOG if samplers is None else samplers)
    verdicts = Verdicts({name: Proof() for name in names})
    for task, result in _results(_tasks(names, device, samplers is None), workers):
        _enter(verdicts, task, result)
        advance(1)
    _credit(verdicts)
    return verdicts


def size(samplers: Iterable[str] | None = None) -> int:
    """Tasks of a run."""
    return len(_tasks(list(CATALOG if samplers is None else samplers), "cpu", samplers is None))


def _tasks(names: list[str], device: str, mutants: bool) -> list[_Task]:
    tasks = []
    for name in names:
        tasks += [_Task(exact_part, (name, part), 3) for part in range(PARTS)]
        tasks += [_Task(evidence, (name, device), 15), _Task(invariances, (name,), 2), _Task(paths, (name, device), 4)]
    if mutants:
        tasks += [_Task(examine, pair, 6 if pair[1] == "chi-square" else 1) for pair in combinations()]
    return sorted(tasks, key=lambda task: -task.weight)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _results(tasks: list[_Task], workers: int) -> Iterator[tuple[_Task, Any]]:
    if workers <= 1:
        for task in tasks:
            yield task, task.act(*task.arguments)
        return
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its threads
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        waiting: dict[Future[Any], _Task] = {pool.submit(task.act, *task.arguments): task for task in tasks}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _enter(verdicts: Verdicts, task: _Task, result: Any) -> None:
    if task.act is examine:
        verdicts.findings.append(result)
        return
    proof = verdicts.proofs[task.arguments[0]]
    if task.act is exact_part:
        count, error = result
        proof.cells += count
        if count:
            proof.exact_error = max(proof.exact_error or 0.0, error)
    elif task.act is paths:
        proof.path_cells, proof.mismatches = result
    elif task.act is evidence:
        proof.evidence = result
    else:
        proof.greedy_differences, proof.batch_differences, proof.impossible_tokens, proof.relabelling_error = result


def _credit(verdicts: Verdicts) -> None:
    """A mutant counts for every sampler with the verifier it was planted into."""
    verdicts.findings.sort(key=lambda finding: (finding.mutant, finding.kind))
    planted: dict[int, bool] = {}
    for finding in verdicts.findings:
        planted[finding.mutant] = planted.get(finding.mutant, True) and finding.passed
    verifiers = {number: type(MUTANTS[number].subject().sampler.verifier) for number in planted}
    for name, proof in verdicts.proofs.items():
        own = type(subject(name)[1].verifier)
        mine = [number for number, kind in verifiers.items() if kind is own]
        proof.mutants, proof.mutants_killed = len(mine), sum(planted[number] for number in mine)
