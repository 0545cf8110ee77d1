"""Source closure: the first-party code that decides what a module does, found without running it.

The closure of a module is the module and, transitively, every first-party module it imports, wherever the import
statement stands (imports under ``if TYPE_CHECKING`` are for readers and are left out). Its hash is taken over the
syntax trees without docstrings: comments, formatting and documentation never change it, and it is the same under
every supported Python.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

from drafters.io.paths import REPOSITORY
from eval.lossless.source_hash import tree_hash

PACKAGES = ("pipeline", "eval", "drafters")
# The plumbing between a stage and the runner: it moves bytes, reports progress and hands over settings, whose values are in the
# key themselves, and may not decide what a stage writes. Were it part of the closure, a change to an error message would throw
# away hours of training.
PLUMBING = frozenset({
    "pipeline.runner.stage", "pipeline.errors", "pipeline.tracking", "pipeline.config.settings", "pipeline.config.text_settings",
    "drafters.io.atomic",
})  # fmt: skip


def closure_hash(module: str, root: Path = REPOSITORY, packages: Collection[str] = PACKAGES) -> str:
    """SHA-256 over the names and syntax trees of the closure of ``module``."""
    digest = hashlib.sha256()
    for name in closure(module, root, packages):
        path = locate(name, root)
        assert path is not None  # closure() holds located modules only
        digest.update(f"{name}\0{tree_hash(path.read_bytes(), str(path))}\0".encode())
    return digest.hexdigest()


def closure(module: str, root: Path = REPOSITORY, packages: Collection[str] = PACKAGES) -> list[str]:
    """Sorted names of the first-party modules in the closure of ``module``, itself included; ``PLUMBING`` and what
    only it imports excluded.

    Raises ModuleNotFoundError when ``module`` itself is not a file below ``root``.
    """
    if locate(module, root) is None:
        raise ModuleNotFoundError(f"{module}: no such module below {root}", name=module)
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name in PLUMBING or name.partition(".")[0] not in packages:
            continue
        if (path := locate(name, root)) is None:
            continue
        found.add(name)
        parents = name.split(".")[:-1]
        waiting += [".".join(parents[: n + 1]) for n in range(len(parents))]  # importing a.b.c runs a and a.b first
        waiting += _imports(path.read_bytes(), str(path), name, path.name == "__init__.py")
    return sorted(found)


def locate(name: str, root: Path) -> Path | None:
    """File of a module or package below ``root``; None where there is none (a namespace, an attribute, another
    library)."""
    base = root.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_name(base.name + ".py")):
        if path.is_file():
            return path
    return None


@functools.lru_cache(maxsize=4096)
def _imports(source: bytes, path: str, module: str, is_package: bool) -> tuple[str, ...]:
    """Absolute names a module may import; ``from a import b`` yields a and a.b since b may be a module."""
    names: list[str] = []
    for node in _runtime_nodes(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for branch in child.orelse:
                yield from _runtime_nodes(branch)
        else:
            yield from _runtime_nodes(child)
