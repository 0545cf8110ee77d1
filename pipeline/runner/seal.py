"""From a partial directory to a published one, in an order in which every prefix is safe.

Files are flushed and hashed, the manifest is written, the directory is renamed, and the folder that holds it is
flushed. A kill before the manifest leaves a partial directory to resume from; one between manifest and rename leaves a
sealed partial directory, which the next run only has to rename.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from drafters.io import manifest as manifests
from drafters.io.atomic import fsync_directory
from pipeline.runner.content_key import KeyParts


def make_folder(path: Path) -> None:
    """Create ``path`` and make its name, and the names of the folders above it, survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync_directory(folder.parent)


def is_sealed(partial: Path) -> bool:
    """Whether a killed run got as far as the manifest. One that does not fit is removed; the files stay."""
    try:
        manifests.read_manifest(partial)
    except manifests.ManifestError:
        (partial / manifests.NAME).unlink(missing_ok=True)
        return False
    return True


def sweep(partial: Path) -> None:
    """Remove temporary files of killed processes; the lock makes sure that no live one writes here."""
    for path in list(partial.rglob(".*.tmp-*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def seal(partial: Path, kind: str, key: str, parts: KeyParts) -> None:
    """Write the manifest: from here on the directory is complete. ``parts`` is what the key was made of."""
    extra = {name: value for name, value in parts.items() if name in ("source", "external", "machine")}
    config = portable(parts["config"])
    manifests.write_manifest(partial, kind=kind, key=key, config=config, inputs=parts["inputs"], extra=extra)


def publish(partial: Path, directory: Path) -> None:
    """Give a sealed directory its final name, durably, and check that it arrived."""
    os.rename(partial, directory)
    fsync_directory(directory.parent)
    manifests.read_manifest(directory, verify=False)  # its bytes were hashed a moment ago


def portable(value: Any) -> Any:
    """``value`` with absolute paths cut to their last part: a manifest may be published and names no machine."""
    if isinstance(value, dict):
        return {name: portable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if isinstance(value, str) and (value.startswith("~") or os.path.isabs(value)):
        return os.path.basename(value.rstrip("/"))
    return value
