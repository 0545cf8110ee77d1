"""The page in a real browser: no message on the console, at the widths of a phone and of a desk."""

import html
import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from eval.report.html.page import render
from eval.report.html.sections.texts import PART, said, visible
from eval.report.sources import further
from tests.eval.report.conftest import small

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


LOOK = """
const token = (text, number) => document.querySelectorAll(".tokens")[text].children[number];
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const told = () => getComputedStyle(document.activeElement, "::after").content;
const reach = () => [...document.querySelectorAll(".token")].filter((item) => item.tabIndex === 0).length;
const found = {before: getComputedStyle(token(0, 0), "::after").content, reach: reach()};
token(0, 0).focus(); found.first = told();
press("ArrowRight"); found.second = told();
press("End"); press("ArrowRight"); found.last = token(0, 5) === document.activeElement; found.reached = reach();
press("Home"); press("ArrowLeft"); found.home = token(0, 0) === document.activeElement;
press("Escape"); found.left = document.activeElement === document.body;
found.texts = [...document.querySelectorAll(".tokens")].map((item) => item.textContent);
found.order = [...token(0, 5).textContent].map((letter, at) => {
  const range = document.createRange();
  range.setStart(token(0, 5).firstChild, at); range.setEnd(token(0, 5).firstChild, at + 1);
  return range.getBoundingClientRect().left;
});
found.colours = ["accepted", "correction", "bonus", "plain"].map((kind) =>
  getComputedStyle(document.querySelector(".tokens ." + kind)).backgroundColor);
found.wide = document.documentElement.scrollWidth - innerWidth;
document.title = JSON.stringify(found);
"""


def looked(page: Path, *flags: str) -> dict:
    """What the script LOOK finds on a page that allows it, and whose own script has run."""
    markup = page.read_text(encoding="utf-8")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', markup)[0]
    page.write_text(markup.replace(policy, "").replace("</body>", f"<script>{LOOK}</script></body>"), encoding="utf-8")
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    usual = ["--headless", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}", "--window-size=500,900"]
    done = subprocess.run(
        [str(BROWSER), *alone, *usual, *flags, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True, encoding="utf-8",
    )  # fmt: skip
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.S)[1]))


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict[str, dict]:
    """Scheme -> what is found on the page of the small report."""
    found = {}
    for scheme, flag in (("light", "1"), ("dark", "0")):
        page = tmp_path_factory.mktemp(scheme) / "report.html"
        page.write_bytes(render(small()))
        found[scheme] = looked(page, f"--blink-settings=preferredColorScheme={flag}")
    return found


def test_words_of_a_token_are_shown_where_the_keyboard_is(seen):
    found, first = seen["light"], small().texts.answers[0].tokens
    assert found["before"] == "none"
    spoken = [found[name].strip('"').replace("\\a ", "\n") for name in ("first", "second")]  # as CSS writes a line end
    assert spoken == [said(token) for token in first[:2]]
    assert (found["reach"], found["reached"]) == (2, 2)  # one Tab a text
    assert found["last"]
    assert found["home"]
    assert found["left"]


def test_tokens_are_text_that_turns_nothing_round(seen):
    found = seen["light"]
    assert found["texts"] == [
        "".join(visible(token.text) or PART for token in answer.tokens) for answer in small().texts.answers
    ]
    assert found["order"] == sorted(found["order"])
    assert found["wide"] <= 0


def test_colours_are_those_of_the_scheme(seen):
    for found in seen.values():
        assert len(set(found["colours"])) == 4
    assert not set(seen["light"]["colours"]) & set(seen["dark"]["colours"])
