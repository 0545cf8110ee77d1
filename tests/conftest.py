"""Shared by all tests."""

from pathlib import Path

import pytest
import torch

from eval.losslessness import certificate


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` on machines without one."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(autouse=True)
def _no_shipped_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a test reads does not depend on whether the released certificate fits the code of the moment."""
    monkeypatch.setattr(certificate, "SHIPPED", tmp_path / "no-certificate-came-with-this-code")
