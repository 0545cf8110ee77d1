"""``python -m docs.generator``: write every generated page; ``--check`` only says which of them are out of date."""

from __future__ import annotations

import sys

from docs.generator.pages import DOCS, PAGES


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them; the exit status is 1 where one is out of date."""
    stale = []
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; write them with: python -m docs.generator", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
