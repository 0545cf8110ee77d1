"""A drafter's folder handed on from stage to stage without a second copy on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def carry(folder: Path, out: Path) -> None:
    """The drafter in ``folder``, in prune's layout, as a part of ``out``: linked where the disk can, as nothing is changed."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or name.as_posix() == "manifest.json" or (out / name).exists():
            continue
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, out / name)
        except OSError:
            shutil.copyfile(path, out / name)
