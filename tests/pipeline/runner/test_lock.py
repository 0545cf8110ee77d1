"""One owner at a time; a lock outlives no process, whatever ended it."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.runner.lock import identity, is_stale, lock

HOLD = """
import sys, time
from pathlib import Path
from rich.console import Console
from pipeline.runner.lock import lock
with lock(Path(sys.argv[1]), Console(), "holder"):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys, time
from pathlib import Path
from rich.console import Console
from pipeline.runner.lock import lock
path = Path(sys.argv[1])
for _ in range(30):
    with lock(path, Console(file=open("/dev/null", "w")), "counter", poll=0.001):
        counter = path.with_name("counter")
        value = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(value + 1))
"""


def start(script: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def test_lock_names_its_owner_while_held_and_is_gone_after(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock(path, quiet(), "toy"):
        owner = json.loads(path.read_text())
        assert owner == identity()
        assert owner["pid"] == os.getpid()
        assert not is_stale(owner)
    assert not path.exists()


def test_lock_is_released_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock(tmp_path / "lock", quiet(), "toy"):
        raise KeyError
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({}, False),
        ({"boot": "before the reboot"}, True),
        ({"start": "when another process had this id"}, True),
        ({"pid": 2**22 + 1}, True),  # above the largest process id there can be
        ({"pid": None}, True),
        ({"host": "another", "pid": 2**22 + 1}, False),  # cannot be judged from here
    ],
)
def test_staleness(change: dict[str, Any], stale: bool) -> None:
    assert is_stale(identity() | change) == stale


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"pid": 2**22 + 1})])
def test_debris_is_taken_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    if content.startswith('{"pid'):
        (tmp_path / "lock").write_text(json.dumps(identity() | json.loads(content)))
    with lock(tmp_path / "lock", quiet(), "toy"):
        assert json.loads((tmp_path / "lock").read_text()) == identity()


def test_live_owner_makes_the_second_wait_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = start(HOLD, path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    console, entered = quiet(), threading.Event()

    def second() -> None:
        with lock(path, console, "toy", poll=0.01):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not entered.wait(0.3)
    assert f"toy: waiting for process {holder.pid} on " in console.file.getvalue()  # type: ignore[attr-defined]
    assert console.file.getvalue().count("waiting") == 1  # type: ignore[attr-defined]
    holder.communicate("")
    assert entered.wait(10)
    thread.join()


def test_killed_owner_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = start(HOLD, path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)  # not reaped yet: a zombie counts as gone
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert path.exists()
    console = quiet()
    with lock(path, console, "toy"):
        assert json.loads(path.read_text()) == identity()
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    holder.communicate()


def test_lock_of_another_is_left_alone_on_release(tmp_path: Path) -> None:
    path, other = tmp_path / "lock", json.dumps(identity() | {"host": "another"})
    with lock(path, quiet(), "toy"):
        path.write_text(other)  # the user deleted ours, someone else took it
    assert path.read_text() == other


def test_only_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    workers = [start(COUNT, tmp_path / "lock") for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    for worker in workers:
        worker.communicate()
    assert (tmp_path / "counter").read_text() == "120"
