"""What an evaluation works with: models, package, prompts, samplers and stop policies, opened as it is asked.

The same in the process that writes the report and in every worker that measures for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drafters.generation import check_settings, check_target
from drafters.models.model_folder import quiet
from drafters.models.pair import ModelPair, load_pair
from drafters.package.reader import Package, load
from drafters.stop.policy import StopPolicy
from eval.run.compared_drafters import lineup
from eval.run.configurations import Contender, Drafter, RankLaw, contenders
from eval.run.greedy_check import GreedyCheck
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

    @property
    def longest(self) -> int:
        """Most tokens that a policy drafts in a round."""
        return max(stop.max_length for named in self.stops.values() for stop in named.values())

    def contenders(self, rank_law: RankLaw) -> list[Contender]:
        """All rows of the report, ready to run."""
        return contenders(
            self.drafters,
            self.stops.__getitem__,
            self.asked.settings.temperatures,
            self.asked.presets,
            compare=self.asked.settings.compare,
            rank_law=rank_law,
            executors=self.asked.executor.executors,
        )

    def harness(self, found: Sequence[Contender]) -> Harness:
        """The harness that runs these contenders on the prompts and checks their greedy outputs."""
        device, check = self.drafters[0].pair.device, GreedyCheck(self.models.target)
        return Harness(found, device, self.asked.settings.max_new_tokens, self.asked.seed, check, self.warps)


def opened(asked: Evaluation, package_folder: Path) -> Bench:
    """Load everything. Raises as `drafters.load`, `load_pair` and `check_target` do, ConfigError and LossyError."""
    settings, device, dtype = asked.settings, asked.device, asked.dtype
    with quiet(always=True):
        package = load(package_folder, device=device, dtype=dtype)
        models = load_pair(asked.pair, device=device, dtype=dtype)
        check_target(models.target, package)
        check_settings(models.target, models.drafter)
        more = settings.more_drafters
        drafters = list(lineup(asked.pair, models, package, more, device, dtype, settings.compile))
    stops = {heat: asked.policies(heat, package.stop) for heat in settings.temperatures}
    warps = Warps(settings.top_k, settings.top_p, settings.draft_sampling)
    return Bench(asked, package, models, drafters, _tasks(asked, models), stops, warps, dict(models.left_out))


def _tasks(asked: Evaluation, models: ModelPair) -> list[Task]:
    settings, limit = asked.settings, models.context_lengths[0]
    room = None if limit is None else limit - settings.max_new_tokens
    if room is not None and room < 1:
        raise ConfigError(
            f"eval.max_new_tokens={settings.max_new_tokens}: the target's context holds {limit} tokens, prompt included; "
            f"set it below {limit}"
        )
    tokenizer = models.target_tokenizer
    prompts = suite.load(asked.suite, tokenizer, settings.prompts, asked.seed)
    return [Task(number, prompt.id, suite.encode(prompt, tokenizer, room)) for number, prompt in enumerate(prompts)]
