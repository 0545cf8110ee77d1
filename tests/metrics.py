"""The shape of the code in numbers: `make metrics`, or `python tests/metrics.py [--json] [--check] [FOLDER]`.

Counts what can be counted about readability over drafters/, eval/ and pipeline/, beside the aims of the project; with
`--check` the exit status is 1 where an aim is missed. Standard library only; nothing is imported or run.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

TOPS = ("drafters", "eval", "pipeline")
# Folders of instances of one kind: one stage, one benchmark, one rule a file. They may hold 15 files, all others 10.
INSTANCES = ("pipeline/stages", "eval/bench")
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Metric -> (what the aim is called, whether a value meets it).
AIMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "modules": ("<= 285", lambda value: value <= 285),
    "lines": ("<= 31000", lambda value: value <= 31_000),
    "longest file, lines": ("<= 300", lambda value: value <= 300),
    "import cycles, lazy imports included": ("0", lambda value: value == 0),
    "most files in a folder": ("<= 15", lambda value: value <= 15),
    "folders with more than 10 files, instances left out": ("none", lambda value: not value),
    "public docstrings missing": ("0", lambda value: value == 0),
    "public docstrings that say nothing": ("0", lambda value: value == 0),
    "dict[str, Any]": ("<= 60", lambda value: value <= 60),
    "class names used twice in a top package": ("0", lambda value: value == 0),
    "entry points": ("<= 3", lambda value: value <= 3),
    "YAML files": ("<= 70", lambda value: value <= 70),
    "README, lines": ("<= 150", lambda value: value <= 150),
    "README, numbers outside of code blocks": ("<= 60", lambda value: value <= 60),
}


@dataclass(frozen=True)
class Module:
    """One Python file: `path` relative to the repository, `name` dotted."""

    path: Path
    source: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())

    @property
    def is_bare_init(self) -> bool:
        """An __init__.py of a docstring, which marks a folder and is no module to read."""
        return self.path.name == "__init__.py" and self.lines <= 1


def read(root: Path, folder: str) -> list[Module]:
    """All Python files below `folder`, by path. Raises SyntaxError for one that is none."""
    paths = sorted((root / folder).rglob("*.py"))
    sources = [(path.relative_to(root), path.read_text(encoding="utf-8")) for path in paths]
    return [Module(path, source, ast.parse(source, str(path))) for path, source in sources]


def functions(tree: ast.AST) -> list[int]:
    """Lines of every function and method, decorators left out."""
    return [node.end_lineno - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, Function)]  # type: ignore[operator]


def public_docstrings(node: ast.Module | ast.ClassDef) -> Iterator[str | None]:
    """Docstrings, or None, of every public function and class in a module or class, methods included."""
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield ast.get_docstring(child)
            yield from public_docstrings(child)
        elif isinstance(child, Function) and not child.name.startswith("_") and not _is_overload(child):
            yield ast.get_docstring(child)


def _is_overload(node: Function) -> bool:
    return any("overload" in ast.unparse(item) or ".setter" in ast.unparse(item) for item in node.decorator_list)


def says_nothing(docstring: str) -> bool:
    """Whether a docstring is only a reference ("See X.") or has four words at most."""
    return bool(re.fullmatch(r"(See|As) [^.]*(\.\w+)*\.?", docstring.strip())) or len(docstring.split()) <= 4


def comments_and_code(source: str) -> tuple[int, int]:
    """Comments, and lines that hold code; docstrings are neither."""
    comments, code = 0, set()
    skip = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    previous = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments += 1
            continue
        stands_alone = token.type == tokenize.STRING and previous in (
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
        )
        if token.type not in skip and not stands_alone:
            code.update(range(token.start[0], token.end[0] + 1))
        if token.type != tokenize.NL:
            previous = token.type
    return comments, len(code)


def imports(module: Module, known: set[str]) -> set[str]:
    """Names of the modules in `known` that a module imports anywhere; those under TYPE_CHECKING are for readers."""
    found: set[str] = set()
    waiting: list[ast.AST] = [module.tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & known if whole & known else {node.module}
        waiting += ast.iter_child_nodes(node)
    return found & known - {module.name}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other in a circle (strongly connected components of two and more)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            groups.extend([sorted(group)] if len(group) > 1 else [])

    for name in graph:
        if name not in order:
            visit(name)
    return groups


def is_entry_point(module: Module) -> bool:
    """Whether a module is started from a shell: `if __name__ == "__main__"`."""
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in module.tree.body)


def class_names_twice(modules: Sequence[Module]) -> list[str]:
    """Names that two or more classes at the top of modules of one top package share."""
    names = Counter(node.name for module in modules for node in module.tree.body if isinstance(node, ast.ClassDef))
    return sorted(name for name, count in names.items() if count > 1)


def measure(root: Path) -> dict[str, Any]:
    """Every metric by name, for the repository at `root`."""
    by_top = {top: read(root, top) for top in TOPS}
    everything = [module for modules in by_top.values() for module in modules]
    modules = [module for module in everything if not module.is_bare_init]
    lengths = sorted(module.lines for module in modules)
    sizes = sorted(size for module in modules for size in functions(module.tree))
    docstrings = [text for module in modules for text in public_docstrings(module.tree)]
    counted = [comments_and_code(module.source) for module in modules]
    named = {module.name: module for module in everything}
    graph = {name: imports(module, set(named)) for name, module in named.items()}
    folders = Counter(str(module.path.parent) for module in everything if module.path.name != "__init__.py")
    tests = read(root, "tests")
    yaml = sorted(len(path.read_text().splitlines()) for path in (root / "conf").rglob("*.yaml"))
    readme = (root / "README.md").read_text(encoding="utf-8")
    return {
        "modules": len(modules),
        "modules by top package": {top: sum(not m.is_bare_init for m in found) for top, found in by_top.items()},
        "lines": sum(lengths),
        "median file, lines": median(lengths),
        "longest file, lines": lengths[-1],
        "files over 200 / over 300 / under 40 lines": [
            sum(n > 200 for n in lengths),
            sum(n > 300 for n in lengths),
            sum(n < 40 for n in lengths),
        ],
        "functions of at most 25 lines, %": round(100 * sum(size <= 25 for size in sizes) / len(sizes), 1),
        "function length, p90 / longest": [round(quantiles(sizes, n=10)[-1]), sizes[-1]],
        "comments per line of code": round(sum(c for c, _ in counted) / sum(n for _, n in counted), 3),
        "public docstrings": len(docstrings),
        "public docstrings missing": sum(text is None for text in docstrings),
        "public docstrings that say nothing": sum(says_nothing(text) for text in docstrings if text is not None),
        "import edges": sum(map(len, graph.values())),
        "import cycles, lazy imports included": len(cycles(graph)),
        "most files in a folder": max(folders.values()),
        "folders with more than 10 files, instances left out": {
            name: count for name, count in folders.most_common() if count > 10 and name not in INSTANCES
        },
        "dict[str, Any]": sum(module.source.count("dict[str, Any]") for module in modules),
        "class names used twice in a top package": sum(len(class_names_twice(found)) for found in by_top.values()),
        "which": {top: class_names_twice(found) for top, found in by_top.items()},
        "entry points": sum(map(is_entry_point, modules)),
        "YAML files": len(yaml),
        "YAML, median / longest": [median(yaml), yaml[-1]],
        "tests, lines": sum(module.lines for module in tests),
        "modules with a test file of their name": same_named(modules, tests),
        "README, lines": len(readme.splitlines()),
        "README, numbers outside of code blocks": len(
            re.findall(r"(?<![\w.])\d[\d.,]*", re.sub(r"```.*?```", "", readme, flags=re.S))
        ),
        "README, bytes": len(readme.encode()),
    }


def same_named(modules: Sequence[Module], tests: Sequence[Module]) -> int:
    """Modules a/b.py with a test tests/a/test_b.py."""
    there = {module.path for module in tests}
    return sum(Path("tests", module.path.parent, f"test_{module.path.stem}.py") in there for module in modules)


def main(arguments: list[str]) -> int:
    """Print the table; returns the exit status."""
    folders = [word for word in arguments if not word.startswith("-")]
    found = measure(Path(folders[0]) if folders else Path(__file__).resolve().parents[1])
    if "--json" in arguments:
        print(json.dumps(found, indent=2))
    missed = [name for name, (_, meets) in AIMS.items() if not meets(found[name])]
    for name, value in () if "--json" in arguments else found.items():
        aim = f"   aim {AIMS[name][0]}{', missed' if name in missed else ''}" if name in AIMS else ""
        print(f"{name:<52} {json.dumps(value) if isinstance(value, list | dict) else value}{aim}")
    return 1 if missed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
