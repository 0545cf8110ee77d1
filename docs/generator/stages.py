"""docs/reference/stages.md: what each stage reads and writes, from the stages themselves."""

from __future__ import annotations

import importlib
import inspect
import re

from omegaconf import DictConfig

from docs.generator.markdown import page as as_page
from docs.generator.markdown import table
from pipeline.config.hydra_config import load
from pipeline.runner.discovery import load_stage, stage_names
from pipeline.runner.stage import Stage

OPTIONAL = ("affinity", "tail", "distill", "train_disco")  # stages that `<stage>.enabled` puts in or takes out
INTRODUCTION = (
    'A stage is run by `make <stage> ARGS="key=value ..."`, or `python -m pipeline stage=<stage> key=value ...`; it first makes what it '
    "reads, where that is missing. Its output lies in `runs/<stage>/<key>`. [Settings](settings.md) has every key."
)
NAMES_OF_CODE = re.compile(r"``([^`]+)``")


def ordered(cfg: DictConfig) -> list[Stage]:
    """All stages, each after what it reads."""
    stages = {name: load_stage(name)[0] for name in stage_names()}

    def depth(name: str) -> int:
        return 1 + max((depth(needed) for needed in stages[name].inputs(cfg).values()), default=0)

    return sorted(stages.values(), key=lambda stage: (depth(stage.name), stage.name))


def page() -> str:
    """The whole page."""
    usual, everything = load(["stage=count"]), load(["stage=count", *(f"{name}.enabled=true" for name in OPTIONAL)])
    stages = ordered(everything)
    rows = [
        [f"[{item.name}](#{item.name})", *_reads(item, usual, everything), "yes" if item.measures else ""]
        for item in stages
    ]
    overview = table(["stage", "reads", "reads where enabled", "measures this machine"], rows)
    return as_page("Stages", INTRODUCTION, overview, *(_section(item) for item in stages))


def _reads(stage: Stage, usual: DictConfig, everything: DictConfig) -> tuple[str, str]:
    now, most = sorted(set(stage.inputs(usual).values())), sorted(set(stage.inputs(everything).values()))
    return ", ".join(now) or "-", ", ".join(name for name in most if name not in now)


def _section(stage: Stage) -> str:
    module = importlib.import_module(load_stage(stage.name)[1])
    first, _, rest = (inspect.getdoc(module) or "").partition("\n\n")
    said = first.partition(": ")[2]
    text = NAMES_OF_CODE.sub(r"`\1`", rest)
    return "\n\n".join(part for part in (f"## {stage.name}", said[:1].upper() + said[1:], text) if part)
