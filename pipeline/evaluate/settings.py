"""What an evaluation is asked to do, as values: its settings, samplers, stop policies and executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drafters.distributed.executor import Distributed
from drafters.distributed.plan import Plan, PlanError
from drafters.engine.decode import Executor, Speculative
from drafters.probs import Sampling
from drafters.stop.catalog import TRAINED, build
from drafters.stop.classifier import Trained
from drafters.stop.policy import StopPolicy
from eval.bench import peers
from eval.run import sampler_files
from eval.run.records import DISTRIBUTED, SPECULATIVE
from eval.run.sampler_files import Preset
from eval.suites.suite import SuiteConfig
from pipeline.errors import ConfigError
from pipeline.runner.discovery import suggest

Files = Mapping[str, Mapping[str, Any]]  # label of a file of conf/sampler or conf/stop -> its `name` and its options
OPTIONS = {SPECULATIVE: (), DISTRIBUTED: ("servers", "lookahead", "backend", "address", "gpus")}
BACKENDS = ("threads", "ray")


@dataclass
class EvalConfig:
    """The settings of stage=eval: what is measured, and for how long."""

    temperatures: list[float] = field(default_factory=lambda: [0.0, 0.7, 1.0])
    top_k: int = 0  # of the target's distribution; 0: off
    top_p: float = 1.0  # 1: off
    # Of the drafter's own distribution, which may be any; null: the target's temperature, top_k and top_p
    draft_temperature: float | None = None
    draft_top_k: int = 0  # with draft_temperature
    draft_top_p: float = 1.0
    # Files of conf/sampler; null: all that apply. Their options are samplers.<name>.<option>
    samplers: list[str] | None = None
    # Files of conf/stop, each with every sampler that allows it; null: the chosen `stop` alone
    stops: list[str] | None = None
    compare: bool = True  # also the other drafters and variants that the comparisons of papers need
    prompts: int | None = None  # of the suite; null: all
    minutes: float | None = 60.0  # begin no further prompt after that; null: no limit
    max_new_tokens: int = 128
    repeats: int = 1  # of every prompt; the median of the seconds counts
    # Drafts a round of rows with a constant length: policy (the one of `stop`) | best (each row's own, by prediction)
    lengths: str = "policy"
    # Rows of transformers itself, with the unpruned drafter: generate, assisted (as many drafts as ours), assisted_dynamic
    peers: list[str] = field(default_factory=list)
    cost_runs: int = 50  # forwards of every kind to time
    law_rounds: int = 48  # rounds per row whose distributions (p, q) are logged; 0: no optimum beside the rows
    # Of the target's own text on which both models' distributions are read, per temperature; 0: no verdict
    positions: int = 4000
    rows: str = "all"  # all | few: time one tree per drafter, no sampler that does what another one does, the package's forms alone
    confirm_prompts: int = 24  # kept back from all else: the verdict's candidates run on them by the clock
    confirm_minutes: float = 20.0  # of that, per temperature
    # Prompts whose answers the report shows token by token, at every temperature; null: 2 of a suite that came with this code,
    # 0 of any other. Answers may hold private text: report.json and report.html then carry it, prompts included, wherever you
    # send them (make publish leaves it out)
    texts: int | None = None
    # Compile the forwards that recur (torch.compile): minutes first, then about 2.5x as fast on a CPU
    compile: bool = False
    # Measured unpruned beside the pair's own: name: folder, or org/name@<40 hex digits>
    more_drafters: dict[str, str] = field(default_factory=dict)

    @property
    def draft_sampling(self) -> Sampling | None:
        """The drafter's own way of making distributions, None for the target's. Raises ValueError as Sampling does."""
        if self.draft_temperature is None:
            return None
        return Sampling(self.draft_temperature, self.draft_top_k, self.draft_top_p)


@dataclass(frozen=True)
class ExecutorSettings:
    """How samplers are run beside speculative decoding in this process: a file of conf/executor."""

    name: str = SPECULATIVE
    servers: int = 3
    lookahead: int | None = None
    backend: str = "threads"
    address: str | None = None
    gpus: float = 0.0

    @property
    def executors(self) -> dict[str, Executor]:
        """Name -> executor. Raises what `drafters.distributed.backends.ray.require_ray` does where Ray is asked for."""
        found: dict[str, Executor] = {SPECULATIVE: Speculative()}
        if self.name == DISTRIBUTED and self.backend == "ray":
            from drafters.distributed.backends.ray import RayClusters

            found[DISTRIBUTED] = Distributed(self.servers, self.lookahead, RayClusters(self.address, self.gpus))
        elif self.name == DISTRIBUTED:
            found[DISTRIBUTED] = Distributed(self.servers, self.lookahead)
        return found

    @property
    def devices(self) -> dict[str, int]:
        """Devices that each executor's rows are measured on; 1 where it is not said."""
        many = self.name == DISTRIBUTED and self.backend == "ray" and self.gpus > 0
        return {DISTRIBUTED: self.servers + 1} if many else {}


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation is asked to do; the same in the process that writes the report and in every worker."""

    settings: EvalConfig
    pair: Mapping[str, Any]  # of `drafters.models.pair.pair_settings`
    suite: SuiteConfig
    presets: list[Preset]
    stops: Files
    executor: ExecutorSettings
    device: str
    dtype: str
    seed: int

    def policies(self, temperature: float, trained: Trained | None) -> dict[str, StopPolicy]:
        """Name of its file in conf/stop -> policy, every one of them a row. `trained`: the package's stop slot.

        Raises StopError as `drafters.stop.catalog.build` does.
        """
        return {
            label: build(options["name"], _without_name(options), temperature=temperature, trained=trained)
            for label, options in self.stops.items()
        }


def choose_presets(every: Files, one: Mapping[str, Any] | None, settings: EvalConfig) -> list[Preset]:
    """The samplers asked for, variants only where named or compared; ``one``: that alone.

    Raises ValueError as `sampler_files.parse` does.
    """
    if one is not None:
        return sampler_files.parse({_label(every, one): one})
    found = sampler_files.parse(every, settings.samplers)
    return found if settings.compare or settings.samplers is not None else [item for item in found if item.plain]


def choose_stops(every: Files, one: Mapping[str, Any], settings: EvalConfig) -> Files:
    """The stop policies asked for: eval.stops, else the chosen ``one``."""
    if settings.stops is not None:
        return {name: every[name] for name in settings.stops}
    return {_label(every, one): one}


def check_compared(settings: EvalConfig, many: bool) -> None:
    """Raise ConfigError for draft lengths and rows of others that cannot be measured. `many`: by several processes."""
    if settings.lengths not in ("policy", "best"):
        raise ConfigError(f"eval.lengths={settings.lengths}: expected policy, or best: each row's own by prediction")
    if settings.lengths == "best" and not settings.positions:
        raise ConfigError("eval.lengths=best: lengths are predicted from the laws: set eval.positions above 0")
    for name in settings.peers:
        if name not in peers.ROWS:
            raise ConfigError(f"eval.peers: {name}: no such row; {suggest(name, peers.ROWS)}")
    if many and (settings.peers or settings.lengths == "best"):
        raise ConfigError("eval.peers and eval.lengths=best are measured in one process: choose hardware=cpu")


def check_stops(files: Files, trained: bool) -> None:
    """Raise StopError or ConfigError for options that are wrong, and for a trained policy without a training.

    Trained policies are built when the package is open.
    """
    for label, options in files.items():
        if options["name"] not in TRAINED:
            build(options["name"], _without_name(options))
        elif not trained:
            raise ConfigError(
                f"stop={label}: it needs a trained classifier in the package: add train_disco.enabled=true, which trains one "
                "first, or choose stop=confidence, which needs none"
            )


def parse_executor(values: Mapping[str, Any]) -> ExecutorSettings:
    """The settings of an executor. Raises ConfigError for one, or an option, that does not exist or cannot work."""
    name = str(values.get("name"))
    if name not in OPTIONS:
        raise ConfigError(f"executor={name}: no such executor; {suggest(name, list(OPTIONS))}")
    for option in values.keys() - {"name"} - set(OPTIONS[name]):
        raise ConfigError(f"executor.{option}: executor={name} has no such option; {suggest(option, OPTIONS[name])}")
    found = ExecutorSettings(**values)
    if found.backend not in BACKENDS:
        raise ConfigError(f"executor.backend={found.backend}: choose one of: {', '.join(BACKENDS)}")
    try:
        Plan(1 if found.lookahead is None else found.lookahead, found.servers)
    except PlanError as error:
        raise ConfigError(str(error)) from error
    return found


def _label(every: Files, one: Mapping[str, Any]) -> str:
    """The file that has exactly these settings, else the name in them."""
    return next((label for label, values in every.items() if values == one), str(one.get("name")))


def _without_name(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in options.items() if name != "name"}
