"""The verdict of an evaluation: candidates by prediction, the first of them by the clock on unseen prompts, what to use."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drafters.engine.decode import autoregressive
from drafters.io.atomic import write_atomic
from drafters.package.recommendation.choices import Choice, Recommendation, Target
from drafters.samplers.draft import StringProposal
from eval.costs.forwards import Costs
from eval.lossless.certificate import code_hash
from eval.run import metrics
from eval.run.configurations import Contender
from eval.run.records import AUTOREGRESSIVE, Configuration, Record, parse
from eval.run.trials import Task
from eval.verdict.candidates import Candidate, candidates, contender, shortlist
from eval.verdict.prediction import Overheads, Timed, Work, fit_overheads, overrun, timed
from eval.verdict.prediction import work as work_of
from eval.verdict.verdict import Confirmed, confirm, surprises, verdict
from pipeline.evaluate.policy_replays import by_policies
from pipeline.evaluate.setup import Bench
from pipeline.evaluate.text_expectations import LONGEST, Common
from pipeline.runner.stage import Workspace

CONFIRMED = 3  # candidates that run by the clock
MOST = 1.25  # of whole runs' seconds that their forwards' prices may add up to: what prices change within minutes
SPREAD = 1.5  # upper over lower quartile of a target forward: 1.02 to 1.2 on idle machines, 2 to 3.4 on disturbed ones
FEWEST = 4  # prompts under which there is no interval worth the name


@dataclass(frozen=True)
class Judged:
    """The verdicts, and what they rest on."""

    choices: tuple[Choice, ...]
    overheads: Overheads
    overrun: float
    warnings: list[str]


def split(tasks: Sequence[Task], wanted: int) -> tuple[list[Task], list[Task]]:
    """(prompts to rank on, prompts to confirm on): every third one is kept back until there are enough.

    Where that leaves fewer than FEWEST, all serve both; the report then says so. None are kept back where none are wanted.
    """
    if not wanted:
        return list(tasks), []
    kept = set(range(2, len(tasks), 3)[: max(wanted, FEWEST)])
    if len(kept) < FEWEST:
        return list(tasks), list(tasks)
    return [task for number, task in enumerate(tasks) if number not in kept], [tasks[number] for number in sorted(kept)]


def judge(
    work: Workspace,
    bench: Bench,
    common: Mapping[float, Common],
    costs: Costs,
    records: Sequence[Record],
    contenders: Sequence[Contender],
    unseen: Sequence[Task],
) -> Judged:
    """Rank, confirm, conclude, for every temperature."""
    works = _works(contenders)
    runs = timed(records, works, costs)
    extra, choices, said = fit_overheads(runs), [], _prices(runs) + _disturbed(costs) + _seen(common, unseen)
    for heat, found in common.items():
        here = [item for item in contenders if item.configuration.temperature == heat]
        certain = heat == 0 and bench.warps.limits(heat, 1).drafting.greedy
        said += found.disagreements(here, records, certain)
        ranked = candidates(found.entries.values(), heat, costs, extra, LONGEST)
        if not ranked:
            continue
        texts = [task for task in bench.tasks if task.id in found.prompts]
        ranked += by_policies(bench, texts, heat, ranked, costs, extra)
        ranked.sort(key=lambda item: -item.predicted.ratio)
        chosen = shortlist(ranked, CONFIRMED)
        confirmed = _by_the_clock(work, bench, heat, chosen, unseen)
        said += surprises(confirmed)
        choices.append(verdict(confirmed, ranked, bench.warps.plain(heat), costs))
    return Judged(tuple(choices), extra, overrun(runs), said)


def _prices(runs: Sequence[Timed]) -> list[str]:
    """What makes prices incredible, in words."""
    share = overrun(runs)
    if share <= MOST:
        return []
    return [
        f"the forwards of the timed runs should have taken {share:.2f} of what the whole runs took: their prices were measured "
        "under other load; measure again on an idle machine"
    ]


def _disturbed(costs: Costs) -> list[str]:
    """That the clock of the prices was disturbed, in words: undisturbed quartiles of a forward lie within a tenth of each other."""
    spread = statistics.median(timing.high / timing.low for timing in costs.target.values())
    if spread <= SPREAD:
        return []
    return [
        f"target forwards of one kind took times whose quartiles differ by a factor of {spread:.1f}: something else ran beside them, "
        "so do not trust the prices and the draft lengths that follow from them; run it again on an idle machine"
    ]


def _seen(common: Mapping[float, Common], unseen: Sequence[Task]) -> list[str]:
    """That the clock ran on prompts of the ranking, in words."""
    if not any(task.id in found.prompts for found in common.values() for task in unseen):
        return []
    return [
        f"{len(unseen)} prompts are too few to keep some back: what to use was confirmed on the prompts that it was chosen on; "
        f"give a suite of at least {3 * FEWEST}"
    ]


def _works(contenders: Sequence[Contender]) -> dict[object, Work]:
    """The work of samplers that draft tokens at a constant length: costs of a policy's decisions must stay apart."""
    return {
        item.configuration: work_of(item.sampler, item.stop.max_length)
        for item in contenders
        if item.sampler is not None
        and item.stop is not None
        and item.stop.constant
        and not isinstance(item.sampler.proposal, StringProposal)
    }


def _by_the_clock(
    work: Workspace, bench: Bench, heat: float, chosen: Sequence[Candidate], tasks: Sequence[Task]
) -> list[Confirmed]:
    """The candidates and plain decoding in turns on every prompt, as many as fit into eval.confirm_minutes."""
    plain = Contender(
        Configuration(None, None, AUTOREGRESSIVE, None, heat, None), partial(autoregressive, bench.drafters[0].pair)
    )
    every = [plain, *map(contender, chosen)]
    harness = bench.harness(every)
    records: list[Record] = []
    warm = False
    begin, limit = time.monotonic(), 60 * bench.asked.settings.confirm_minutes
    with work.progress(f"Confirming, T = {heat:g}", len(tasks) * len(every), most=limit) as bar:
        for number, task in enumerate(tasks):
            if number >= FEWEST and time.monotonic() - begin > limit:
                break
            part = work.out / f".part-confirm-{heat:g}-{task.number:06d}.jsonl"
            found = _read(part, {item.configuration for item in every})
            if found is None:
                if not warm:
                    harness.warm_up(task)
                warm, found = True, harness.trial(task, 0, bar.advance)
                write_atomic(part, "".join(f"{item.to_json()}\n" for item in found).encode())
            records += found
    if not records:
        return []
    samples = metrics.collect(records)
    return confirm(chosen, samples, samples[plain.configuration])


def _read(part: Path, names: set[Configuration]) -> list[Record] | None:
    """A prompt's records where a killed run had measured the same candidates on it."""
    if not part.exists():
        return None
    found = list(map(parse, part.read_text(encoding="utf-8").splitlines()))
    return found if {item.configuration for item in found} == names else None


def recommendation(bench: Bench, judged: Judged, device: str, dtype: str, threads: int) -> Recommendation:
    """The content of ``recommended.json``: choices, and what they were measured with."""
    target = bench.package.description["target"]
    return Recommendation(
        package=bench.package.manifest.content,
        target=Target(target["id"], target["revision"]),
        pair=bench.asked.pair["name"],
        suite=bench.asked.suite.name,
        device=device,
        dtype=dtype,
        threads=threads,
        code=code_hash(),
        choices=judged.choices,
    )
