"""The embedded prompts follow from the rule, and nothing behind a signature and docstring gets into one."""

import json

import pytest

from eval.suites.suite import EMBEDDED
from pipeline.text.pycode_prompts import PER_FILE, choose, cut
from pipeline.text.python_source import Document, split_of

SOURCE = '''\
import os


def plain(a,
          b=1):
    # not part of it
    """What it does, in a sentence."""
    x = a
    y = b
    z = x
    return z


@os.decorated
def decorated(first, second, third):
    a = 1
    b = 2
    c = 3
    return first, second, third, a, b, c


class Holder(dict):
    """A class."""

    def method(self, first_argument, second_argument):

        @os.wrap
        def inner():
            pass
        a = 1
        return inner


def short(first_argument, second_argument, third_argument):
    return 1
'''


def test_cut():
    rows = list(cut(Document("m.py", SOURCE, "stdlib")))
    assert [row["id"] for row in rows] == ["m.py:plain", "m.py:Holder.method"]
    assert rows[0]["prompt"].endswith('    """What it does, in a sentence."""\n')
    assert rows[1]["prompt"] == "class Holder(dict):\n    def method(self, first_argument, second_argument):\n"


def test_choice_is_deterministic_and_spread_over_files():
    body = "".join(f"def function_{i}(first_argument, second_argument):\n" + "    x = 1\n" * 4 for i in range(20))
    files = [Document(f"{name}.py", body, "stdlib") for name in "abc"] + [Document("d.py", body, "packages")]
    chosen = choose(iter(files), 3 * PER_FILE)
    assert chosen == choose(iter(reversed(files)), 3 * PER_FILE)
    assert {row["id"].partition(":")[0] for row in chosen} == {"a.py", "b.py", "c.py"}
    with pytest.raises(ValueError, match="expected 100 prompts, found 18 in 3 files"):
        choose(iter(files), 100)


def test_embedded_prompts_are_of_the_unseen_split():
    rows = [json.loads(line) for line in (EMBEDDED / "pycode.jsonl").read_text().splitlines()]
    assert {split_of(row["id"].partition(":")[0]) for row in rows} == {"test"}
    assert all(row["source"].startswith("CPython") for row in rows)
