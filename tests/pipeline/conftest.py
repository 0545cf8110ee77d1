"""A toy pipeline in a package of its own: ``numbers`` -> ``shards`` -> ``total``, which also reads ``numbers``."""

import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from pipeline.runner.runner import Runner

STAGES = {
    "numbers": """
from drafters.io.atomic import write_atomic
from pipeline.runner.stage import Context, Stage
from {package}.arithmetic import text

def run(context: Context) -> None:
    with open(context.cfg.journal, "a") as journal:
        journal.write("numbers\\n")
    write_atomic(context.out / "numbers.txt", text(context.cfg.numbers.count))

STAGE = Stage(name="numbers", run=run, external=lambda cfg: {{"seeds": cfg.seeds}})
""",
    "shards": """
from drafters.io.atomic import write_atomic
from pipeline.runner.stage import Context, Stage

def run(context: Context) -> None:
    lines = (context.inputs["numbers"] / "numbers.txt").read_text().split()
    for index, line in enumerate(lines):
        path = context.out / "part" / f"{{index:05d}}"
        if path.exists():
            continue
        if context.cfg.shards.fail_at == index:
            raise RuntimeError(f"shard {{index}} failed")
        path.parent.mkdir(exist_ok=True)
        with open(context.cfg.journal, "a") as journal:
            journal.write(f"shard {{index}}\\n")
        write_atomic(path, (line * 100).encode())

STAGE = Stage(
    name="shards", run=run, inputs=lambda cfg: {{"numbers": "numbers"}}, config=lambda cfg: {{"unit": cfg.shards.unit}}
)
""",
    "total": """
from drafters.io.atomic import write_atomic
from pipeline.runner.stage import Context, Stage

def run(context: Context) -> None:
    size = sum(path.stat().st_size for path in (context.inputs["shards"] / "part").iterdir())
    write_atomic(context.out / "total.txt", f"{{size}}\\n".encode())

STAGE = Stage(
    name="total", run=run, inputs=lambda cfg: {{"shards": "shards", "numbers": "numbers"}}, measures=True
)
""",
}
ARITHMETIC = (
    '"""Arithmetic."""\n\ndef text(count: int) -> bytes:\n    return " ".join(map(str, range(count))).encode()\n'
)
_unique = itertools.count()


class Toys:
    """The toy package on disk, and runners for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = f"toys{next(_unique)}"
        self.runs = root / "runs"
        self.journal = root / "journal"
        self.output = io.StringIO()
        self.settings = {
            "runs_dir": str(self.runs),
            "journal": str(self.journal),
            "seeds": str(root / "seeds"),
            "device": "cpu",
            "dtype": "auto",
            "threads": 1,
            "numbers": {"count": 4},
            "shards": {"unit": "x", "fail_at": None},
            "total": {},
        }
        for name in ("__init__", "stages/__init__"):
            self.write(name, '"""Toys."""\n')
        self.write("arithmetic", ARITHMETIC)
        self.write("unrelated", "x = 1\n")
        for name, source in STAGES.items():
            self.write(f"stages/{name}", source.format(package=self.package))
        (root / "seeds").write_text("7")

    def write(self, name: str, source: str) -> None:
        path = self.root / self.package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    def runner(self, *changes: str) -> Runner:
        """A fresh runner under the settings changed by dotted ``changes``."""
        cfg = OmegaConf.merge(OmegaConf.create(self.settings), OmegaConf.from_dotlist(list(changes)))
        console = Console(file=self.output, width=200)
        return Runner(cfg, console, f"{self.package}.stages", self.root, (self.package,))  # type: ignore[arg-type]

    def key(self, stage: str, *changes: str) -> str:
        return self.runner(*changes).plan(stage).key

    def worked(self) -> list[str]:
        """What the stages have done so far."""
        return self.journal.read_text().split("\n")[:-1] if self.journal.exists() else []

    def said(self) -> str:
        """What was printed since the last call."""
        text = self.output.getvalue()
        self.output.seek(0)
        self.output.truncate()
        return text


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toys]:
    monkeypatch.syspath_prepend(tmp_path)
    made = Toys(tmp_path)
    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == made.package]:
        del sys.modules[name]
