"""The one hash of Python code: over its syntax tree without docstrings.

Comments, formatting and documentation never change it, and it is the same under every supported Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib


@functools.lru_cache(maxsize=4096)
def tree_hash(source: bytes, path: str) -> str:
    """SHA-256 in hex of the syntax tree of `source`; `path` names it in errors. Raises SyntaxError."""
    return hashlib.sha256(_canonical(ast.parse(source, path)).encode()).hexdigest()


def _canonical(node: object) -> str:
    """Like ``ast.dump`` without positions, docstrings and empty fields (a newer Python adds fields that are empty in
    older code)."""
    if isinstance(node, list):
        return "[" + ",".join(_canonical(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            value = value[1:] if ast.get_docstring(node, clean=False) is not None else value
        if name == "values" and isinstance(node, ast.JoinedStr):  # some Python 3.12 add empty pieces
            value = [item for item in value if not (isinstance(item, ast.Constant) and item.value == "")]
        if value is not None and value != []:
            parts.append(f"{name}={_canonical(value)}")
    return f"{type(node).__name__}({','.join(parts)})"
