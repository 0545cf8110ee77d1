"""How eval/suites/prompts/pycode.jsonl was made: functions of the standard library, cut behind their signature and docstring.

Only files of the corpus' test split serve, which no stage counts, trains or generates from. Run once per change of the
rule: ``python -c "from pipeline.text.pycode_prompts import write; write()"``.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path

from eval.suites.suite import EMBEDDED
from pipeline.text.python_source import Document, documents

COUNT = 80
PER_FILE = 6
ALL_BYTES = 400_000_000  # more than there is: every file of the split, not the corpus' sample of it
BODY_LINES = 4  # fewer leave nothing to continue
PROMPT_CHARACTERS = (40, 1000)


def cut(document: Document) -> Iterator[dict[str, str]]:
    """Prompts of one file: every function's signature and docstring, a method's below the header of its class."""
    tree, lines = ast.parse(document.text), document.text.splitlines(keepends=True)
    yield from _functions(tree, lines, document.path, "", "")
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            header = "".join(lines[node.lineno - 1 : _signature_end(node, lines)])
            yield from _functions(node, lines, document.path, f"{node.name}.", header)


def _functions(
    parent: ast.Module | ast.ClassDef, lines: list[str], path: str, scope: str, header: str
) -> Iterator[dict[str, str]]:
    for node in parent.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.decorator_list:
            continue
        end = _signature_end(node, lines)
        first = node.body[0]
        if ast.get_docstring(node, clean=False) is not None:
            end, first = first.end_lineno or end, node.body[min(1, len(node.body) - 1)]
        prompt = header + "".join(lines[node.lineno - 1 : end])
        body = (node.end_lineno or end) - end
        low, high = PROMPT_CHARACTERS
        if first.lineno > end and body >= BODY_LINES and low <= len(prompt) <= high and prompt.isascii():
            yield {"id": f"{path}:{scope}{node.name}", "prompt": prompt}


def _signature_end(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]) -> int:
    """Last line of the part that ends with the colon: what stands before the body, without comments and blank lines."""
    first = node.body[0]
    end = min([first.lineno, *(item.lineno for item in getattr(first, "decorator_list", []))]) - 1
    while end > node.lineno and (not (line := lines[end - 1].strip()) or line.startswith("#")):
        end -= 1
    return end


def choose(files: Iterator[Document], count: int = COUNT) -> list[dict[str, str]]:
    """`count` prompts in the order of the hashes of their ids, at most `PER_FILE` of one file.

    Raises:
        ValueError: the files hold fewer.
    """
    found = [prompt for file in files if file.domain == "stdlib" for prompt in cut(file)]
    used: dict[str, int] = {}
    chosen: dict[str, dict[str, str]] = {}
    for prompt in sorted(found, key=lambda item: hashlib.sha256(item["id"].encode()).digest()):
        path = prompt["id"].partition(":")[0]
        if used.get(path, 0) < PER_FILE and prompt["id"] not in chosen and len(chosen) < count:
            used[path] = used.get(path, 0) + 1
            chosen[prompt["id"]] = prompt
    if len(chosen) < count:
        raise ValueError(f"expected {count} prompts, found {len(chosen)} in {len(used)} files")
    return list(chosen.values())


def write(path: Path = EMBEDDED / "pycode.jsonl") -> None:
    """Write the embedded suite; each row says which Python's library it was cut from."""
    version = platform.python_version()
    rows = [
        prompt | {"source": f"CPython {version} standard library"}
        for prompt in choose(documents("test", total_bytes=ALL_BYTES))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
