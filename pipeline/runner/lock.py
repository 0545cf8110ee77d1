"""One writer per output directory: a lock file that outlives no process.

The file names its owner by host, boot id, process id and process start time, so the lock of a killed process, or of
one from before a reboot, is recognised as stale and taken over, even when its process id has been given to another
program since. A live owner makes the second run wait: what it is making is what the second run wants.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

POLL = 0.5  # seconds between looks at a lock held by a live process


@contextmanager
def lock(path: Path, console: Console, what: str, poll: float = POLL) -> Iterator[None]:
    """Hold the lock file ``path`` during the block, waiting (and saying so once) while a live process holds it."""
    waiting = False
    while (owner := _try_acquire(path)) is not None:
        if not waiting:
            waiting = True
            text = (
                f"{what}: waiting for process {owner.get('pid')} on {owner.get('host')}, which is making the same "
                f"output (Ctrl-C to stop; if you know that it no longer runs, delete {path})"
            )
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        time.sleep(poll)
    try:
        yield
    finally:
        with _guard(path):
            if _owner(path) == identity():  # else someone deleted it by hand and it is now another's
                path.unlink()


def identity(pid: int | None = None) -> dict[str, Any]:
    """What tells one process from every other: host, boot, process id and start time (None: no such process)."""
    pid = os.getpid() if pid is None else pid
    return {"host": platform.node(), "boot": _boot_id(), "pid": pid, "start": _start_time(pid)}


def is_stale(owner: dict[str, Any]) -> bool:
    """Whether the owner is certainly gone. One on another host cannot be judged from here and counts as live."""
    if not isinstance(owner.get("pid"), int):
        return True  # not a lock file of ours: we write whole files
    return owner.get("host") == platform.node() and owner != identity(owner["pid"])


def _try_acquire(path: Path) -> dict[str, Any] | None:
    """Take the lock and return None, or return its live owner."""
    with _guard(path):
        owner = _owner(path)
        if owner is not None and not is_stale(owner):
            return owner
        temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        temporary.write_text(json.dumps(identity()))
        os.replace(temporary, path)
        return None


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """A kernel lock that makes looking at a lock file and replacing it one act; it ends with its process."""
    with open(path.with_name(".locks"), "ab") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _owner(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # macOS
        return _output("sysctl", "-n", "kern.boottime")


def _start_time(pid: int) -> str | None:
    """When process ``pid`` started, in the system's own words; None if there is no such process or it is a zombie."""
    if not Path("/proc/self/stat").exists():  # macOS
        return _output("ps", "-o", "lstart=", "-p", str(pid)) or None
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # from field 3 of proc(5) on: the name in brackets may hold spaces
    return None if fields[0] == "Z" else fields[19]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
