"""``python -m tests.families [FILE]``: the table family x step as Markdown, every cell run."""

import sys
import time
from pathlib import Path
from tempfile import mkdtemp

from transformers.utils import logging

from tests.families.catalog import FAMILIES
from tests.families.walk import STEPS, walk, wrong


def table(names: list[str]) -> str:
    """Walk the named families; one row each, and below it every refusal and every fault in full."""
    lines = ["| family | " + " | ".join(STEPS) + " |", "| --- |" + " --- |" * len(STEPS)]
    notes: dict[str, str] = {}
    for name in names:
        started = time.monotonic()
        cells = walk(FAMILIES[name], Path(mkdtemp(prefix="family-")))
        for step, cell in cells.items():
            if not cell.startswith("ok"):
                notes.setdefault(f"{name}: {cell}", step)
        shown = [cell if cell.startswith("ok") else cell.split()[0].rstrip(":") for cell in cells.values()]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
        print(f"{name}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
        for line in wrong(FAMILIES[name], cells):
            print(f"  {line}", file=sys.stderr, flush=True)
    texts = [
        f"- {note.splitlines()[0] if len(note) > 900 else ' '.join(note.split())} (first at: {step})"
        for note, step in notes.items()
    ]
    return "\n".join([*lines, "", *texts, ""])


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    chosen = [name for name in sys.argv[1:] if name in FAMILIES] or list(FAMILIES)
    text = table(chosen)
    files = [name for name in sys.argv[1:] if name not in FAMILIES]
    for file in files:
        Path(file).write_text(text, encoding="utf-8")
    print(text)
