"""``python -m pipeline doctor [pair=... key=value ...]``: is this machine ready for this configuration? Asked before hours are spent.

One line for each check: ok, warn (something later will be missing) or FAIL, and for the last two the command that puts
it right. Nothing is downloaded but, where the network answers, what the Hub says of a repository. Exit status 1 when a
check failed.
"""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig
from rich.console import Console

from drafters.errors import DraftersError
from pipeline.config import hydra_config
from pipeline.doctor.asked_checks import text_findings
from pipeline.doctor.finding import FAIL, WARN, Finding, fail
from pipeline.doctor.machine_checks import machine_findings
from pipeline.doctor.model_checks import model_findings
from pipeline.errors import redact
from pipeline.runner.library_warnings import show_library_warnings

STAGE = "stage=eval"  # any stage composes the whole configuration


def findings(overrides: list[str]) -> Iterator[Finding]:
    """All checks of the configuration that ``overrides`` compose, cheapest first."""
    cfg: DictConfig | None = None
    try:
        chosen = overrides if any(word.startswith("stage=") for word in overrides) else [STAGE, *overrides]
        cfg = hydra_config.load(chosen)
        yield Finding("ok", "configuration", f"pair={cfg.pair.name}, corpus={cfg.corpus.name}, suite={cfg.suite.name}")
    except Exception as error:  # whatever Hydra raises: it is the user's typing
        known = error if isinstance(error, DraftersError) else hydra_config.explain(error)
        yield fail("configuration", str(known or error), "python -m pipeline stage=eval --cfg job  # all settings")
    yield from machine_findings(cfg)
    if cfg is not None:
        yield from text_findings(cfg)
        yield from model_findings(cfg)


def main(overrides: list[str]) -> int:
    """Print every finding as it is made; returns the exit status."""
    show_library_warnings(Console(soft_wrap=True))
    failed = warned = 0
    for finding in findings(overrides):
        print(redact(f"{finding.state:<5} {finding.check:<14} {finding.text}"), flush=True)
        if finding.fix:
            print(redact(f"      {'':<14} fix: {finding.fix}"), flush=True)
        failed += finding.state == FAIL
        warned += finding.state == WARN
    print(f"failed: {failed}, warnings: {warned}" if failed or warned else "all is well")
    return 1 if failed else 0
