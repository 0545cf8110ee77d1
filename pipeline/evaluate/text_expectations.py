"""Expectations of all samplers on the common text of an evaluation, kept in a file per temperature until the report is written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drafters.io.atomic import write_atomic
from drafters.package.recommendation.uses import FORMS
from drafters.samplers.draft import Sampler
from eval.expectation.agreement import disagreement
from eval.expectation.common_text import common_text
from eval.expectation.expect import Expectation, expectations
from eval.expectation.expectation_summary import Expected, acceptance, acceptance_gain, tokens_per_forward
from eval.expectation.expected_rounds import Followed, Rounds, expected_rounds
from eval.run.configurations import Contender, Drafter, RankLaw, applicable, made_to_measure, reference
from eval.run.records import SPECULATIVE, Configuration, Record
from eval.run.sampler_files import Preset
from eval.run.trials import Task
from eval.verdict.candidates import SAME_LAW, Entry
from pipeline.evaluate.setup import Bench
from pipeline.runner.stage import Workspace

LONGEST = 8  # drafts of the longest chain that is asked about
Key = tuple[str, str]  # drafter, label of the preset


@dataclass(frozen=True)
class Common:
    """The common text of one temperature and what every rule would make of it."""

    entries: dict[Key, Entry]
    first: Key  # the unpruned drafter with plain rejection, which the others are compared with
    prompts: dict[str, int]  # id -> number of its text
    positions: int

    def row(self, contender: Contender) -> Expected:
        """What distributions let expect of a contender."""
        entry, base = self.entry(contender), self.entries.get(self.first)
        own, rounds = None if entry is None else entry.expectation, self.rounds(contender)
        return Expected(
            acceptance=None if own is None else acceptance(own),
            acceptance_gain=None if own is None or base is None else acceptance_gain(own, base.expectation),
            tokens_per_forward=None if rounds is None else tokens_per_forward(rounds),
            text_positions=None if own is None else self.positions,
        )

    def entry(self, contender: Contender) -> Entry | None:
        """What was found for a contender's drafter and sampler; None for another shape of the tree, made for another stop policy."""
        key = contender.configuration
        found = self.entries.get((str(key.drafter), str(key.preset)))
        same = found is not None and contender.sampler is not None and found.sampler.shape == contender.sampler.shape
        return found if same else None

    def rounds(self, contender: Contender) -> Rounds | None:
        """Expected rounds of a contender with a constant length; None for one that asks its policy, or several servers."""
        entry, stop = self.entry(contender), contender.stop
        if entry is None or stop is None or contender.configuration.executor != SPECULATIVE or not stop.constant:
            return None
        length = min(stop.max_length, entry.expectation.longest)
        return expected_rounds(entry.expectation.followed, length) if length else None

    def disagreements(self, contenders: Iterable[Contender], records: Sequence[Record], certain: bool) -> list[str]:
        """Rows that did not run as their p and q let expect, in words. `certain`: neither text nor drafts are sampled."""
        said = []
        for item in contenders:
            key, rounds = item.configuration, self.rounds(item)
            own = [found for found in records if found.configuration == key and found.repeat == 0]
            why = None if rounds is None else disagreement(own, rounds, self.prompts, certain)
            if why is not None:
                said.append(
                    f"{key.preset} with the drafter {key.drafter} at T = {key.temperature:g}: {why}: do not trust this row"
                )
        return said


def on_common_text(
    work: Workspace, bench: Bench, tasks: Sequence[Task], contenders: Sequence[Contender], rank_law: RankLaw
) -> dict[float, Common]:
    """Expectations by temperature. Prompts are taken in order until their continuations have eval.positions tokens.

    The part of a temperature is good for any later attempt of this run: the contenders hang on the key and on the ranks alone,
    and these are kept, too.
    """
    heats, positions = bench.asked.settings.temperatures, bench.asked.settings.positions
    found = {}
    with work.progress("Reading laws", positions * len(heats)) as bar:
        for heat in heats:
            built = _built(
                bench, [item for item in contenders if item.configuration.temperature == heat], heat, rank_law
            )
            part = work.out / f".part-expectations-{heat:g}.npz"
            if not part.exists():
                write_atomic(part, _packed(_measured(bench, tasks, built, heat, bar.advance)))
            else:
                bar.advance(positions)
            found[heat] = _common(bench, _unpacked(part), built, tasks)
    return found


@dataclass(frozen=True)
class _Built:
    drafter: Drafter
    preset: Preset
    sampler: Sampler


def _built(bench: Bench, contenders: Iterable[Contender], heat: float, rank_law: RankLaw) -> dict[Key, _Built]:
    """The samplers on trial, then every further pairing that could be recommended."""
    presets = bench.asked.presets
    known = {preset.label: preset for preset in presets}
    made: dict[Key, _Built] = {}
    for item in contenders:
        if item.sampler is None or item.drafter is None:
            continue
        label = str(item.configuration.preset)
        preset = known.get(label, reference(item.drafter))
        made.setdefault((item.drafter.name, label), _Built(item.drafter, preset, item.sampler))
    policy = next(iter(bench.stops[heat].values()))
    for drafter in bench.drafters:
        for preset in presets:
            key = drafter.name, preset.label
            wanted = drafter.name in FORMS and preset.plain and preset.label not in SAME_LAW
            if wanted and key not in made and applicable(preset, drafter) is not None:
                sampler = made_to_measure(drafter, preset, policy, rank_law(drafter, heat))
                made[key] = _Built(drafter, preset, sampler)
    return made


def _measured(
    bench: Bench,
    tasks: Sequence[Task],
    built: Mapping[Key, _Built],
    heat: float,
    advance: Callable[[int], object],
) -> dict[Key, Expectation]:
    settings, warps, seed = bench.asked.settings, bench.warps, bench.asked.seed
    limits = warps.limits(heat, settings.max_new_tokens)
    ids, numbers = [task.ids for task in tasks], [task.number for task in tasks]
    texts = common_text(bench.drafters[0].pair, ids, numbers, limits, seed, settings.positions)
    samplers: dict[str, dict[str, Sampler]] = {}
    for (drafter, label), item in built.items():
        samplers.setdefault(drafter, {})[label] = item.sampler
    longest = max(LONGEST, bench.longest)
    return expectations(texts, bench.drafters, samplers, limits.sampling, warps.draft, longest, seed, advance)


def _common(
    bench: Bench, found: Mapping[Key, Expectation], built: Mapping[Key, _Built], tasks: Sequence[Task]
) -> Common:
    entries = {
        key: Entry(own.drafter, own.preset, own.sampler, found[key]) for key, own in built.items() if key in found
    }
    unpruned = bench.drafters[0]
    first = unpruned.name, reference(unpruned).label
    any_one = next(iter(found.values()), None)
    texts = [] if any_one is None else any_one.acceptance
    prompts = {task.id: number for number, task in enumerate(tasks[: len(texts)])}
    return Common(entries, first, prompts, sum(map(len, texts)))


def _packed(found: Mapping[Key, Expectation]) -> bytes:
    arrays: dict[str, np.ndarray] = {}
    for number, ((drafter, label), item) in enumerate(found.items()):
        arrays[f"{number}/name"] = np.array([drafter, label])
        arrays[f"{number}/acceptance"] = np.concatenate(item.acceptance)
        arrays[f"{number}/survival"] = np.concatenate([text.survival for text in item.followed])
        arrays[f"{number}/goes_on"] = np.concatenate([text.goes_on for text in item.followed])
        arrays[f"{number}/sizes"] = np.array([[len(text.survival), text.limit] for text in item.followed])
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _unpacked(part: Path) -> dict[Key, Expectation]:
    found = {}
    with np.load(part, allow_pickle=False) as arrays:
        for number in range(len(arrays.files) // 5):
            drafter, label = arrays[f"{number}/name"].tolist()
            sizes, limits = arrays[f"{number}/sizes"].T
            cuts = np.cumsum(sizes)[:-1]
            split = {name: np.split(arrays[f"{number}/{name}"], cuts) for name in ("acceptance", "survival", "goes_on")}
            followed = [
                Followed(survival, goes_on, int(limit))
                for survival, goes_on, limit in zip(split["survival"], split["goes_on"], limits, strict=True)
            ]
            found[drafter, label] = Expectation(split["acceptance"], followed)
    return found


def expected_rows(common: Mapping[float, Common], contenders: Iterable[Contender]) -> dict[Configuration, Expected]:
    """What is expected of every row."""
    return {
        item.configuration: common[item.configuration.temperature].row(item)
        for item in contenders
        if item.sampler is not None
    }
