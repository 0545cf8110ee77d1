"""One writer per output directory, by a lock of the kernel's: it ends with its process, however that ends.

The lock is `filelock`'s, flock on a file beside the output. On a folder that several hosts share it holds between hosts where the file
system passes flock on, as NFS 4, Lustre with `-o flock` and GPFS do. The file's text names the owner, for whoever has to wait; it is
no part of the lock, and the file stays.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from pipeline.runner.stage import say

POLL = 0.5  # seconds between looks at a lock that another process holds


@contextmanager
def lock(path: Path, console: Console, what: str, poll: float = POLL) -> Iterator[None]:
    """Hold the lock file ``path`` during the block, waiting (and saying so once) while another process holds it."""
    held = FileLock(path)
    try:
        held.acquire(blocking=False)
    except Timeout:
        owner = path.read_text() or "another process"  # it may have to write it yet
        text = f"{what}: waiting for {owner}, which is making the same output (Ctrl-C to stop)"
        say(console, text, whole=True)
        held.acquire(poll_interval=poll)
    try:
        path.write_text(f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        held.release()
