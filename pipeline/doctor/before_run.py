"""The checks of ``make doctor`` that concern a run's models, made by themselves before its first stage.

Nothing that a minute of reading can find may stop a run after hours. What would stop one of its stages ends it here;
the rest is said in one line each. No weights are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from pipeline.doctor.asked_checks import SAMPLERS
from pipeline.doctor.finding import FAIL, OK, Finding
from pipeline.doctor.model_checks import ROLES, model_findings
from pipeline.errors import PipelineError
from pipeline.runner.stage import Stage, say

# Stages that read the target's config and tokenizer alone.
READS_NO_TARGET = frozenset({"count", "prune", "package", "export", "publish"})
_said: set[str] = set()  # findings that this process has shown: a sweep runs the same pair many times


def before_run(cfg: DictConfig, stages: Sequence[Stage], console: Console) -> None:
    """Check the models that the stages to run will open. Raises PipelineError with all that would stop one of them."""
    asked = {role for stage in stages for role in stage.external(cfg) if role in ROLES}
    roles = [role for role in ROLES if role in asked and not OmegaConf.is_missing(cfg.pair, role)]
    stops = []
    publishes = any(stage.name == "publish" for stage in stages)
    for finding in model_findings(cfg, roles, fetch=True, cuts=any(stage.name == "cut" for stage in stages)):
        if finding.check == "licence" and not publishes:  # nothing else asks for it
            continue
        if _stops(finding, cfg, stages):
            stops.append(f"{finding.check}: {finding.text}" + (f"\n  fix: {finding.fix}" if finding.fix else ""))
        elif (finding.state != OK or finding.text.startswith("notes left out")) and (
            line := _line(finding)
        ) not in _said:
            _said.add(line)
            say(console, line, whole=True)
    if stops:
        raise PipelineError("\n".join(["before anything runs:", *stops]))


def _stops(finding: Finding, cfg: DictConfig, stages: Sequence[Stage]) -> bool:
    if finding.check == "licence":
        return finding.state != OK
    if finding.check == SAMPLERS:
        return any(stage.name == "eval" for stage in stages)
    if finding.state != FAIL or finding.check == "memory":  # an estimate, of all of the pair at once
        return False
    if finding.check.endswith(("engine", "target settings")):
        return any(stage.decodes(cfg) for stage in stages)
    if finding.check == "target weights":
        return any(stage.name not in READS_NO_TARGET for stage in stages)
    return True


def _line(finding: Finding) -> str:
    state = "note" if finding.state == OK else "warning"
    return f"{state}: {finding.check}: {finding.text}" + (f" (fix: {finding.fix})" if finding.fix else "")
