"""The gate's certificate: what was proved, for which code. It speaks for exactly the files whose hash it carries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from drafters.io.paths import CONF, REPOSITORY
from eval.lossless.source_hash import tree_hash

SCHEMA = 1
NAME = "certificate.json"
SHIPPED = REPOSITORY / "eval" / "results"  # */certificate.json: given to the code as it was released


def code_hash() -> str:
    """SHA-256 over the paths and contents of drafters/**/*.py and conf/sampler/*.yaml, in the order of their paths.

    Of Python files it is the code that counts (`eval.lossless.source_hash`): a comment or a docstring voids no proof.
    """
    root = REPOSITORY
    files = [*(root / "drafters").rglob("*.py"), *(CONF / "sampler").glob("*.yaml")]
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        known = tree_hash(content, str(path)) if path.suffix == ".py" else hashlib.sha256(content).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {known}\n".encode())
    return digest.hexdigest()


def certificate(samplers: dict[str, dict[str, Any]], device: str, dtype: str, **more: Any) -> dict[str, Any]:
    """The document; `samplers` is name -> {"status", "cells", "exact_error", ...}."""
    return {"schema": SCHEMA, "code": code_hash(), "device": device, "dtype": dtype, "samplers": samplers, **more}


def read_certificate(runs_dir: str | Path) -> dict[str, Any] | None:
    """The certificate that was given to exactly this code: under `runs_dir`, else one that came with it; None if there is none.

    A file that is no certificate counts as none: it proves nothing. One that came with the code has ``shipped``: True.
    """
    code = code_hash()
    own = sorted((Path(runs_dir) / "lossless").glob(f"*/{NAME}"))
    for path in [*own, *sorted(SHIPPED.glob(f"*/{NAME}"))]:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and found.get("schema") == SCHEMA and found.get("code") == code:
            return found if path in own else {**found, "shipped": True}
    return None


def status(found: dict[str, Any] | None, sampler: str) -> str | None:
    """ "exact" or "pathwise" for a sampler that passed, None for one that did not or for no certificate."""
    entry = (found or {}).get("samplers", {}).get(sampler, {})
    value = entry.get("status")
    return value if value in ("exact", "pathwise") else None
