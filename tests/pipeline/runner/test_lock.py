"""One owner at a time; a lock outlives no process, whatever ended it."""

import io
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.runner.lock import lock

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


def owner() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def test_a_lock_names_its_owner_and_can_be_taken_again(tmp_path: Path) -> None:
    path, console = tmp_path / "lock", quiet()
    with pytest.raises(KeyError), lock(path, console, "toy"):
        raise KeyError
    with lock(path, console, "toy"):
        assert path.read_text() == owner()
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_file_that_nobody_holds_is_no_lock(tmp_path: Path) -> None:
    """Before a reboot, or by a process whose id another one has now: the text does not matter."""
    (tmp_path / "lock").write_text("process 1 on here")
    with lock(tmp_path / "lock", quiet(), "toy"):
        assert (tmp_path / "lock").read_text() == owner()


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
    holder.send_signal(signal.SIGKILL)  # not reaped yet: a zombie holds nothing
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    console = quiet()
    with lock(path, console, "toy"):
        assert path.read_text() == owner()
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    holder.communicate()


FORKED = 'os.fork() or (Path(sys.argv[1]).with_name("forked").touch(), time.sleep(5), os._exit(0))'


@pytest.mark.parametrize("child", ['subprocess.Popen(["sleep", "5"])', FORKED])
def test_a_child_that_outlives_the_owner_does_not_keep_the_lock(tmp_path: Path, child: str) -> None:
    script = HOLD.replace('print("held"', f'import os, subprocess; {child}; print("held"')
    holder = start(script, tmp_path / "lock")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    while child == FORKED and not (tmp_path / "forked").exists():  # a fork that has not begun has not let go
        time.sleep(0.01)
    holder.kill()
    holder.wait()
    console = quiet()
    with lock(tmp_path / "lock", console, "toy"):
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_only_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    workers = [start(COUNT, tmp_path / "lock") for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    for worker in workers:
        worker.communicate()
    assert (tmp_path / "counter").read_text() == "120"
