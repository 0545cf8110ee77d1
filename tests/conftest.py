"""Shared by all tests: which are left out, and what is said of them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import torch

from eval.lossless import certificate
from tests.data import NEEDS

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

LEFT_OUT = pytest.StashKey[int]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` on machines without one; a test marked ``slow`` says what takes it so long."""
    for item in items:
        for mark in item.iter_markers("slow"):
            if len(mark.args) != 1 or not isinstance(mark.args[0], str):
                raise pytest.UsageError(f"{item.nodeid}: slow: expected what takes how long, got {mark.args}")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count them where they are collected; under xdist that is in every worker, each of which collects all."""
    if items:
        config = items[0].config
        left_out = config.stash.get(LEFT_OUT, 0) + sum(item.get_closest_marker("slow") is not None for item in items)
        config.stash[LEFT_OUT] = left_out
        if hasattr(config, "workeroutput"):
            config.workeroutput["left_out"] = left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what an xdist worker has counted."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line of what was skipped and why, and one of what was left out."""
    skipped = Counter(reason_of(report) for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line("skipped: " + "; ".join(f"{n} {reason}" for reason, n in skipped.most_common()))
    left_out = config.stash.get(LEFT_OUT, 0)
    if left_out and config.option.markexpr == "not slow":  # else the caller has chosen
        terminalreporter.write_line(f"left out: {left_out} slow tests; make test-all runs them, too")


def reason_of(report: Any) -> str:
    """Why this test was skipped; files of other people that are not here are one reason."""
    reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    return "need models, tokenizers and texts in ../shared/data" if reason.startswith(NEEDS) else reason


@pytest.fixture(autouse=True, scope="session")
def _no_shipped_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test reads does not depend on whether the released certificate fits the code of the moment.

    One for the session: runs that a whole file shares are made before any fixture of a single test.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "SHIPPED", tmp_path_factory.mktemp("none") / "no-certificate-came-with-this-code")
        yield
