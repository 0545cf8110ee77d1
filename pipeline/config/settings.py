"""The settings that several stages read, as values: what is below a stage takes these, and no configuration.

This module is plumbing and stays out of content keys, which hold the values: nothing here may decide anything else of what a stage writes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf

from drafters.io.paths import REPOSITORY
from drafters.models.pair import pair_settings
from drafters.probs import Sampling
from drafters.samplers.catalog import needs_prior
from eval.suites import suite as suites
from eval.suites.dataset_rows import DataError
from eval.suites.row_files import is_glob
from eval.suites.suite import SuiteConfig, files_of, suite_config
from pipeline.cluster.ray_workers import Crew
from pipeline.errors import ConfigError
from pipeline.text import corpus
from pipeline.text.corpus import ASK_CORPUS, CorpusConfig, corpus_config

CONF = REPOSITORY / "conf"
ASK_SUITE = (
    "give prompts like those to be answered: suite=local suite.path=FILE (chats, rows, a line each), or name a file of "
    "conf/suite as a stand-in: suite=pycode are Python functions to be completed"
)
Kind = TypeVar("Kind")


@dataclass
class PairConfig:
    """A target and a drafter."""

    name: str = MISSING
    target: str = MISSING  # local folder, or "org/name" on the Hub
    drafter: str = MISSING
    # Of the Hub: a commit of 40 hex digits pins it; a branch, a tag, or null for the newest, is resolved once per command
    target_revision: str | None = None
    drafter_revision: str | None = None
    # false: one vocabulary, id by id; true: two, handed over as text; null: one where every id spells the same in both
    foreign: bool | None = None
    # Settings of the target's generation config that are taken as unset, e.g. [repetition_penalty]; others that bend p are refused
    unset: list[str] | None = None


@dataclass
class TrackingConfig:
    """Where metrics of a training go besides the CSV file that is always written."""

    wandb: str = "disabled"  # disabled | offline | online
    project: str = "drafters"


@dataclass
class HardwareConfig:
    """Who does the work that many processes can share."""

    backend: str = "local"  # local | ray | slurm
    address: str | None = None  # of a running Ray cluster; null: Ray is started on this machine
    # Of ray: processes with models of their own; null: as many as the GPUs allow, else one per machine
    workers: int | None = None
    gpus_per_worker: float = 0.0  # more than 1 for a target that is spread over several
    inside: str = "node"  # of slurm: the file of conf/hardware that holds within the job
    slurm: dict[str, Any] = field(default_factory=dict)  # what submitit's executor is given; null values are left out


def read(part: DictConfig, kind: type[Kind]) -> Kind:
    """Return a part of the configuration as an object of its dataclass, defaults where it says nothing."""
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), part))  # type: ignore[return-value]


def plain(part: Any) -> dict[str, Any]:
    """Return a part of the configuration as plain containers. Raises as OmegaConf does for a value that is missing."""
    values = OmegaConf.to_container(part, resolve=True, throw_on_missing=True)
    return {str(name): value for name, value in values.items()}  # type: ignore[union-attr]


def pair_of(cfg: DictConfig) -> Mapping[str, Any]:
    """Return what `drafters.load_pair` and `open_checkpoint` are told of the pair. Raises as `pair_settings` does."""
    return pair_settings(plain(cfg.pair))


def drafter_inputs(cfg: DictConfig, *later: str) -> dict[str, str]:
    """Return ``prune``, and in the role ``drafter`` the first of the ``later`` stages that is enabled: it wrote another drafter."""
    enabled = (name for name in later if OmegaConf.select(cfg, f"{name}.enabled", default=False))
    last = next(enabled, None)
    return {"prune": "prune"} | ({} if last is None else {"drafter": last})


def traced_sampler(cfg: DictConfig) -> str | None:
    """Return the sampler whose drafts traces and train-disco look at; None: the plain one that fits."""
    chosen = cfg.traces.sampler or cfg.package.sampler
    return None if chosen is None else str(chosen)


def traced_inputs(cfg: DictConfig) -> dict[str, str]:
    """Return the inputs of traces and train-disco: a tail leaves the kept rows as they are, so that it is none of them."""
    return drafter_inputs(cfg, "distill") | ({"affinity": "affinity"} if needs_prior(traced_sampler(cfg)) else {})


def hardware_of(cfg: DictConfig) -> HardwareConfig:
    """Return who shares the work: this process alone where the configuration does not say."""
    part = cfg.get("hardware")
    return HardwareConfig() if part is None else read(part, HardwareConfig)


def crew_of(cfg: DictConfig) -> Crew:
    """Return the processes of a Ray cluster that share the work."""
    hardware, threads = hardware_of(cfg), cfg.get("threads")
    return Crew(
        hardware.address,
        hardware.workers,
        hardware.gpus_per_worker,
        threads if isinstance(threads, int) else None,
    )


def served_sampling(cfg: DictConfig) -> Sampling:
    """Return the sampling that the package is prepared for."""
    return Sampling(cfg.package.temperature, cfg.package.top_k, cfg.package.top_p)


def corpus_of(cfg: DictConfig) -> CorpusConfig:
    """Return the corpus. Raises ConfigError for none, and as `pipeline.text.corpus.corpus_config` does."""
    if cfg.get("corpus") is None:
        raise ConfigError(f"no corpus: {ASK_CORPUS}")
    if not isinstance(cfg.corpus, DictConfig):
        raise ConfigError(f"corpus={cfg.corpus!s}: expected a mapping, i.e. a file of conf/corpus")
    return corpus_config(plain(cfg.corpus))


def suite_of(cfg: DictConfig) -> SuiteConfig:
    """Return the suite of prompts. Raises ConfigError for none, and DataError as `suite_config` does."""
    if cfg.get("suite") is None:
        raise ConfigError(f"no suite: {ASK_SUITE}")
    if cfg.suite.get("template", "") is None and cfg.suite.get("path") is None:
        raise ConfigError(f"suite={cfg.suite.name}: no suite.path: {ASK_SUITE}")
    return suite_config(plain(cfg.suite))


def stand_ins(cfg: DictConfig) -> list[str]:
    """Return what is said of the embedded pair's text and prompts where they serve another pair: that they are not its own."""
    if str(cfg.pair.name).startswith("pycode"):
        return []
    said, corpus, suite = [], cfg.get("corpus"), cfg.get("suite")
    if corpus is not None and corpus.get("source") == "python" and corpus.get("path") is None:
        said.append(
            "corpus=pycode, Python source of this machine, stands in for text of yours; give it with corpus=local corpus.path=FILE"
        )
    if suite is not None and suite.get("path") == f"{suite.get('name')}.jsonl" == "pycode.jsonl":
        said.append(
            "suite=pycode, Python functions, stands in for prompts of yours; give them with suite=local suite.path=FILE"
        )
    return said


def look(cfg: DictConfig, kind: str) -> str:
    """What the ``corpus``, or the ``suite``, of one's own begins with, in words; empty where nothing is said of it.

    Raises:
        DataError, ConfigError: what is wrong there.
    """
    if kind == "corpus":
        return corpus.look(corpus_of(cfg))
    suites.look(suite_of(cfg))
    return ""


def suite_key(suite: SuiteConfig) -> dict[str, object]:
    """Return what a content key holds of a suite: its rows count by `suite_external`, not by their place."""
    return dataclasses.asdict(suite) | {"path": None}


def suite_external(suite: SuiteConfig) -> dict[str, str]:
    """Return where the suite's rows come from, for `Stage.external`."""
    if suite.path is not None and is_glob(suite.path):
        return {f"suite {number}": str(file) for number, file in enumerate(files_of(suite))}
    return {"suite": suite.file or f"{suite.hub}@{suite.revision}"}


def named_suites(chosen: Mapping[str, str | None], option: str) -> list[SuiteConfig]:
    """Return files of conf/suite with local rows: from the path given, else the embedded ones.

    Raises ConfigError for an unknown name, and for rows that are not here; `option`: the setting that names them.
    """
    try:
        found = [suites.named(str(name), path) for name, path in chosen.items()]
    except DataError as error:
        raise ConfigError(f"{option}.{error}") from error
    for suite in found:
        if suite.path is None:
            raise ConfigError(f"{option}.{suite.name}: expected a local copy of its rows, {option}.{suite.name}=FILE")
    return found
