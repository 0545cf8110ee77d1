"""One writer per output directory: a lock file that outlives no process.

The file names its owner by host, boot id, process id and process start time, so the lock of a killed process, or of one from
before a reboot, is recognised as stale and taken over even when its process id has been given to another program. A live owner
makes the second run wait: what it is making is what the second run wants.
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

from rich.console import Console

POLL = 0.5  # seconds between looks at a lock held by a live process


@contextmanager
def lock(path: Path, console: Console, what: str, poll: float = POLL) -> Iterator[None]:
    """Hold the lock file ``path`` for the duration of the block, waiting (and saying so) while another live process holds it."""
    waiting = False
    while (owner := _try_acquire(path)) is not None:
        if not waiting:
            waiting = True
            console.print(
                f"{what}: waiting for process {owner.get('pid')} on {owner.get('host')}, which is making the same output "
                f"(Ctrl-C to stop; if that process no longer exists, delete {path})",
                highlight=False,
                soft_wrap=True,
            )
        time.sleep(poll)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def identity(pid: int | None = None) -> dict[str, str | int | None]:
    """What tells one process from every other: host, boot, process id and start time."""
    pid = os.getpid() if pid is None else pid
    return {"host": platform.node(), "boot": _boot_id(), "pid": pid, "start": _start_time(pid)}


def is_stale(owner: dict[str, object]) -> bool:
    """Whether the owner is certainly gone. An owner on another host cannot be judged from here and counts as live."""
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return True  # cut short by a power failure: owners write whole files otherwise
    if owner.get("host") != platform.node():
        return False
    return owner != identity(pid)


def _try_acquire(path: Path) -> dict[str, object] | None:
    """Take the lock and return None, or return its live owner. A kernel lock makes looking and taking one act."""
    with open(path.with_name(".locks"), "wb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        try:
            owner = json.loads(path.read_bytes())
        except FileNotFoundError:
            owner = {}
        except ValueError:
            owner = {}
        if owner and not is_stale(owner):
            return owner
        temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        temporary.write_text(json.dumps(identity()))
        os.replace(temporary, path)
        return None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # macOS
        return subprocess.run(
            ["sysctl", "-n", "kern.boottime"], capture_output=True, text=True, check=False
        ).stdout.strip()


def _start_time(pid: int) -> str | None:
    """When process ``pid`` started, in the system's own words; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[19]  # field 22; the name before it, in brackets, may hold anything
    except OSError:
        if Path("/proc/self").exists():
            return None
    return (
        subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout.strip()
        or None
    )
