"""Folders of the cache that are made once for what they are made of: by one process, whole or not at all.

A folder is written aside and renamed once it is sealed: a process that is killed leaves only what the next one removes.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from drafters.io.atomic import fsync_directory
from drafters.io.manifest import ManifestError, read_manifest


def made_once(place: Path, write: Callable[[Path], None]) -> Path:
    """Return the folder ``place``, which ``write`` fills where it is not there or damaged.

    Args:
        place: its name is a hash of all that decides what is in it. write: fills an empty folder, its manifest last.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if _is_whole(place):
        return place
    with FileLock(place.with_name(f".{place.name}.lock")):
        if _is_whole(place):  # by another process, while this one waited
            return place
        for left in place.parent.glob(f".{place.name}.tmp-*"):  # of a process that was killed: the lock is ours
            shutil.rmtree(left)
        aside = place.with_name(f".{place.name}.tmp-{os.getpid()}")
        aside.mkdir()
        try:
            write(aside)
            shutil.rmtree(place, ignore_errors=True)  # damaged, else it would have been taken
            aside.rename(place)
            fsync_directory(place.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return place


def _is_whole(place: Path) -> bool:
    try:
        read_manifest(place)  # hashes its files, once per process
    except ManifestError:
        return False
    return True
