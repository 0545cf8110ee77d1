"""The page in a real browser: no message on the console, at the widths of a phone and of a desk."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from eval.report.html.page import render
from eval.report.sources import further

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium (chromium, chromium-browser or google-chrome) on PATH"
)


def opened(page: Path, width: int) -> tuple[list[str], tuple[int, int]]:
    """Messages on the console, and the size of the picture that was taken."""
    picture = page.with_suffix(f".{width}.png")
    # Chromium's sandbox does not start for root, as which tests run in containers; the page is this test's own.
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    flags = [
        "--headless",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={page.parent / 'profile'}",
    ]
    done = subprocess.run(
        [str(BROWSER), *alone, *flags, f"--window-size={width},900", f"--screenshot={picture}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    size = struct.unpack(">II", picture.read_bytes()[16:24])
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line], size


@pytest.mark.parametrize("width", [500, 1280])  # narrower windows are not made without a screen
def test_opens_without_a_message(runs, report, tmp_path, width):
    page = tmp_path / "report.html"
    page.write_bytes(render(report, further(runs, report.code)))
    messages, size = opened(page, width)
    assert messages == []
    assert size == (width, 900)


def test_a_forbidden_script_would_be_seen(report, tmp_path):
    """The same page with a script that its own policy does not know."""
    page = tmp_path / "report.html"
    page.write_bytes(render(report).replace(b"</body>", b"<script>alert(1)</script></body>"))
    messages, _ = opened(page, 500)
    assert len(messages) == 1
    assert "Content Security Policy" in messages[0]
