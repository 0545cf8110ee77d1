"""What an evaluation works with: models, package, prompts, samplers and stop policies, opened as it is asked.

The same in the process that writes the report and in every worker that measures for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drafters.decode_call import check_settings, check_target
from drafters.models.model_folder import quiet
from drafters.models.pair import ModelPair, load_pair
from drafters.package.reader import Package, load
from drafters.samplers.catalog import CATALOG, applies, build
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from eval.bench import peers
from eval.run.compared_drafters import lineup
from eval.run.configurations import Contender, Drafter, RankLaw, contenders
from eval.run.greedy_check import GreedyCheck
from eval.run.sampler_files import Preset
from eval.run.trials import Harness, Task, Warps
from eval.suites import suite
from pipeline.errors import ConfigError
from pipeline.evaluate.settings import Evaluation


@dataclass(frozen=True)
class Bench:
    """Everything an evaluation loads: package, models, drafters, prompts, stop policies, warps."""

    asked: Evaluation
    package: Package
    models: ModelPair
    drafters: list[Drafter]
    tasks: list[Task]
    stops: dict[float, dict[str, StopPolicy]]  # by temperature and name
    warps: Warps
    not_applied: dict[str, object]  # of the target's generation config
    notes: list[str]  # what became of prompts that are longer than a context

    @property
    def longest(self) -> int:
        """Most tokens that a policy drafts in a round."""
        return max(stop.max_length for named in self.stops.values() for stop in named.values())

    def contenders(self, rank_law: RankLaw) -> list[Contender]:
        """All rows of the report, ready to run."""
        found = contenders(
            self.drafters,
            self.stops.__getitem__,
            self.asked.settings.temperatures,
            self.asked.presets,
            compare=self.asked.settings.compare,
            rank_law=rank_law,
            executors=self.asked.executor.executors,
        )
        if self.asked.settings.samplers is not None:
            check_rows(self.asked.presets, found, self.drafters)
        return found

    def peers(self, found: Sequence[Contender]) -> list[Contender]:
        """The rows of eval.peers, drafting as many tokens a round as the unpruned drafter's first row does. Raises ConfigError."""
        settings, models = self.asked.settings, self.models
        if settings.peers and models.foreign:
            raise ConfigError("eval.peers: rows of one shared vocabulary, but the pair has two; leave eval.peers out")
        own = [item for item in found if item.drafter is self.drafters[0] and isinstance(item.stop, Static)]
        known = {item.configuration.temperature: item.stop.max_length for item in reversed(own) if item.stop}
        lengths = {heat: known.get(heat, self.longest) for heat in settings.temperatures}
        return peers.contenders(models.target, models.drafter, settings.peers, lengths)

    def harness(self, found: Sequence[Contender]) -> Harness:
        """The harness that runs these contenders on the prompts and checks their greedy outputs."""
        device, check = self.drafters[0].pair.device, GreedyCheck(self.models.target)
        return Harness(found, device, self.asked.settings.max_new_tokens, self.asked.seed, check, self.warps)


def opened(asked: Evaluation, package_folder: Path) -> Bench:
    """Load everything. Raises as `drafters.load`, `load_pair` and `check_target` do, ConfigError and LossyError."""
    settings, device, dtype = asked.settings, asked.device, asked.dtype
    with quiet(always=True):
        where = {name: asked.pair[name] for name in ("target", "target_revision")}
        package = load(package_folder, **where, device=device, dtype=dtype)
        models = load_pair(asked.pair, device=device, dtype=dtype)
        check_target(models.target, package)
        check_settings(models.target, models.drafter)
        more = settings.more_drafters
        drafters = list(lineup(asked.pair, models, package, more, device, dtype, settings.compile))
    stops = {heat: asked.policies(heat, package.stop) for heat in settings.temperatures}
    warps = Warps(settings.top_k, settings.top_p, settings.draft_sampling)
    tasks, notes = _tasks(asked, models)
    return Bench(asked, package, models, drafters, tasks, stops, warps, dict(models.left_out), notes)


def check_rows(asked: Sequence[Preset], found: Sequence[Contender], drafters: Sequence[Drafter]) -> None:
    """Raise ConfigError for a sampler that was asked for and that no row is measured with, naming what fits this pair."""
    measured = {item.configuration.preset for item in found}
    for preset in asked:
        if preset.label in measured:
            continue
        unpruned, package, *_ = drafters
        fits = [name for name in CATALOG if any(applies(name, own.vocab, **own.more) for own in (unpruned, package))]
        why = "the stop policy or executor does not allow it; add stop=static"
        if preset.name not in fits:
            try:
                build(preset.name, package.vocab, preset.options, **package.more)
            except ValueError as error:
                why = str(error)
        raise ConfigError(f"eval.samplers: {preset.label} does not fit this pair: {why} What fits: {', '.join(fits)}")


def _tasks(asked: Evaluation, models: ModelPair) -> tuple[list[Task], list[str]]:
    """The prompts, and what is said of those that are longer than a context."""
    settings, (limit, drafter_limit) = asked.settings, models.context_lengths
    room = None if limit is None else limit - settings.max_new_tokens
    if room is not None and room < 1:
        raise ConfigError(
            f"eval.max_new_tokens={settings.max_new_tokens}: the target's context holds {limit} tokens, prompt included; "
            f"set it below {limit}"
        )
    tokenizer = models.target_tokenizer
    prompts = suite.load(asked.suite, tokenizer, settings.prompts, asked.seed)
    whole = [suite.encode(prompt, tokenizer) for prompt in prompts]
    tasks = [Task(number, prompt.id, suite.encode(prompt, tokenizer, room)) for number, prompt in enumerate(prompts)]
    notes, cut = [], sum(len(ids) > len(task.ids) for ids, task in zip(whole, tasks, strict=True))
    if cut:
        notes.append(
            f"{cut} of {len(tasks)} prompts are longer than {room} tokens (the target's context of {limit} less "
            f"eval.max_new_tokens={settings.max_new_tokens}): their beginnings are cut off"
        )
    beyond = sum(len(task.ids) + settings.max_new_tokens > (drafter_limit or math.inf) for task in tasks)
    if beyond:
        notes.append(
            f"{beyond} of {len(tasks)} prompts reach beyond the drafter's context of {drafter_limit} tokens: from there on "
            "decoding is plain"
        )
    return tasks, notes
