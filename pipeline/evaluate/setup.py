"""What an evaluation works with: models, package, prompts, samplers and stop policies, opened from the configuration.

The same in the process that writes the report and in every worker that measures for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from drafters.generation import check_target
from drafters.models.model_folder import quiet
from drafters.models.pair import ModelPair, load_pair, pair_settings
from drafters.package.reader import Package, load
from drafters.probs import Sampling
from drafters.samplers.lossy_settings import check_acceptance, processors
from drafters.stop.policy import StopPolicy
from eval.run import sampler_files
from eval.run.compared_drafters import lineup
from eval.run.configurations import Contender, Drafter, RankLaw, contenders
from eval.run.greedy_check import GreedyCheck
from eval.run.sampler_files import Preset
from eval.run.trials import Harness, Task, Warps
from eval.suites import suite
from pipeline.errors import ConfigError
from pipeline.evaluate import executors, stop_settings


@dataclass(frozen=True)
class Bench:
    """Everything an evaluation loads: package, models, drafters, prompts, stop policies, warps."""

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

    def contenders(self, cfg: DictConfig, rank_law: RankLaw) -> list[Contender]:
        """All rows of the report, ready to run."""
        chosen, heats = chosen_presets(cfg), list(cfg.eval.temperatures)
        return contenders(
            self.drafters,
            self.stops.__getitem__,
            heats,
            chosen,
            compare=cfg.eval.compare,
            rank_law=rank_law,
            executors=executors.executors(cfg),
        )

    def harness(self, cfg: DictConfig, found: Sequence[Contender]) -> Harness:
        """The harness that runs these contenders on the prompts and checks their greedy outputs."""
        device, check = self.drafters[0].pair.device, GreedyCheck(self.models.target)
        return Harness(found, device, cfg.eval.max_new_tokens, cfg.seed, check, self.warps)


def opened(cfg: DictConfig, package_folder: Path) -> Bench:
    """Load everything. Raises as `drafters.load`, `load_pair` and `check_target` do, ConfigError and LossyError."""
    settings, pair = cfg.eval, pair_settings(cfg.pair)
    with quiet(always=True):
        package = load(package_folder, device=cfg.device, dtype=cfg.dtype)
        models = load_pair(pair, device=cfg.device, dtype=cfg.dtype)
        check_target(models.target, package)
        more = settings.more_drafters
        drafters = list(lineup(pair, models, package, more, cfg.device, cfg.dtype, settings.compile))
    stops = {heat: stop_settings.policies(cfg, heat, package.stop) for heat in settings.temperatures}
    warps = Warps(settings.top_k, settings.top_p, draft_sampling(settings))
    return Bench(package, models, drafters, _tasks(cfg, models), stops, warps, _generation_settings(models))


def _generation_settings(models: ModelPair) -> dict[str, object]:
    """What the target's generation config would do to p in plain decoding elsewhere, and is not done here.

    Raises LossyError where one of the models' relaxes acceptance.
    """
    roles = (
        (role, model.generation_config) for role, model in (("target", models.target), ("drafter", models.drafter))
    )
    settings = {role: {} if config is None else config.to_dict() for role, config in roles}
    for role, values in settings.items():
        check_acceptance(f"the {role}'s generation_config.json", values)
    return processors(settings["target"])


def _tasks(cfg: DictConfig, models: ModelPair) -> list[Task]:
    settings, limit = cfg.eval, models.context_lengths[0]
    room = None if limit is None else limit - settings.max_new_tokens
    if room is not None and room < 1:
        raise ConfigError(
            f"eval.max_new_tokens={settings.max_new_tokens}: the target's context holds {limit} tokens, prompt included; "
            f"set it below {limit}"
        )
    tokenizer = models.target_tokenizer
    prompts = suite.load(suite_of(cfg), tokenizer, settings.prompts, cfg.seed)
    return [Task(number, prompt.id, suite.encode(prompt, tokenizer, room)) for number, prompt in enumerate(prompts)]


def draft_sampling(settings: DictConfig) -> Sampling | None:
    """The drafter's own way of making distributions, None for the target's."""
    if settings.draft_temperature is None:
        return None
    return Sampling(settings.draft_temperature, settings.draft_top_k, settings.draft_top_p)


def chosen_presets(cfg: DictConfig) -> list[Preset]:
    """The samplers asked for, variants only where named or compared. Raises ValueError as `sampler_files.parse` does."""
    every: Any = OmegaConf.to_container(cfg.samplers, resolve=True)
    if cfg.sampler is not None:
        one: Any = OmegaConf.to_container(cfg.sampler, resolve=True)
        label = next((name for name, values in every.items() if values == one), str(one.get("name")))
        return sampler_files.parse({label: one})
    found = sampler_files.parse(every, cfg.eval.samplers)
    return found if cfg.eval.compare or cfg.eval.samplers is not None else [item for item in found if item.plain]


def suite_of(cfg: DictConfig) -> dict[str, Any]:
    """The configuration's `suite` as a dictionary."""
    values: Any = OmegaConf.to_container(cfg.suite, resolve=True, throw_on_missing=True)
    return {str(name): value for name, value in values.items()}
