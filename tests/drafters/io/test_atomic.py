"""A file is whole or as it was before: after an error, and after a kill at any moment."""

import json
import os
import subprocess
import sys

import pytest

from drafters.io.atomic import atomic_path, write_atomic, write_json


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, None]})
    assert path.read_text() == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'
    write_json(path, [1], indent=None)
    assert json.loads(path.read_text()) == [1]
    assert os.listdir(tmp_path) == ["a.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["a"])


@pytest.mark.parametrize("moment", ["os.rename", "os.remove"])  # right before the renaming; right after it
def test_a_kill_leaves_one_of_the_two(tmp_path, moment):
    path = tmp_path / "a"
    write_atomic(path, b"old")
    code = f"""
import os, signal, sys
from pathlib import Path
from drafters.io.atomic import write_atomic
sys.addaudithook(lambda event, _: event == {moment!r} and os.kill(os.getpid(), signal.SIGKILL))
write_atomic(Path({str(path)!r}), b"new" * 10_000)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert path.read_bytes() == (b"old" if moment == "os.rename" else b"new" * 10_000)
