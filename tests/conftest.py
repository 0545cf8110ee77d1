"""Shared by all tests."""

from collections.abc import Iterator

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


@pytest.fixture(autouse=True, scope="session")
def _no_shipped_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test reads does not depend on whether the released certificate fits the code of the moment.

    One for the session: runs that a whole file shares are made before any fixture of a single test.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "SHIPPED", tmp_path_factory.mktemp("none") / "no-certificate-came-with-this-code")
        yield
