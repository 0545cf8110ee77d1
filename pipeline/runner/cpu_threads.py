"""How many CPU threads a stage computes with: ``threads=N``, or what serves best.

With ``threads=auto`` a stage that decodes with the pair's models takes the number that `pipeline.runner.thread_probe` finds, once per
pair and machine: it is kept below ``runs_dir``, since stages that measure have it in their content key and a second run
must find the first one's output. Stages that read text in windows, or train, take all: they gain from every core, and
threads that wait asleep (see ``pipeline/__init__.py``) cost them little where another process needs one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from drafters.io.atomic import write_json
from drafters.io.manifest import versions
from pipeline.errors import ConfigError
from pipeline.runner.content_key import DIGITS, device_name, external_hash, resolve_device
from pipeline.runner.seal import make_folder
from pipeline.runner.stage import Stage, pair_external, say

AUTO = "auto"
FOLDER = ".threads"  # below runs_dir
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # what a container may use: "<microseconds or max> <per microseconds>"
Measure = Callable[[DictConfig, Sequence[int]], Mapping[int, Sequence[Any]]]


def check(threads: Any) -> None:
    """Raise ConfigError for what is neither `auto` nor a whole number from 1."""
    if threads == AUTO or (isinstance(threads, int) and not isinstance(threads, bool) and threads >= 1):
        return
    shown = "null" if threads is None else threads
    raise ConfigError(
        f"threads={shown}: expected a whole number from 1, or auto for what serves the models best; all of this machine's "
        f"are threads={allowed()}"
    )


def allowed(environment: Mapping[str, str] = os.environ, quota: Path = QUOTA) -> int:
    """Most threads that serve: cores that this process may use, less what OMP_NUM_THREADS or a container's quota says."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    wish = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wish.isdecimal() and int(wish):
        limits.append(int(wish))
    try:
        most, per = quota.read_text().split()
        limits.append(math.ceil(int(most) / int(per)))
    except (OSError, ValueError):  # no such system, or "max"
        pass
    return max(1, min(limits))


@dataclass
class Threads:
    """The numbers of threads of one configuration."""

    cfg: DictConfig
    console: Console
    cores: int | None = None  # None: `allowed`
    measure: Measure | None = None  # None: `pipeline.runner.thread_probe.measure`
    _found: int | None = None

    def of(self, stage: Stage) -> int:
        """Threads of ``stage``. The first that decodes with `auto` opens the models, unless that was done before."""
        if self.cfg.threads != AUTO:
            return int(self.cfg.threads)
        cores = self.cores or allowed()
        if cores == 1 or not stage.decodes(self.cfg) or resolve_device(self.cfg.device) != "cpu":
            return cores
        if self._found is None:
            self._found = self._choice(cores)
        return self._found

    def use(self, stage: Stage) -> None:
        """Let torch compute with them, if it is loaded: a stage that computes has imported it, another need not wait for it."""
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(self.of(stage))

    def _choice(self, cores: int) -> int:
        facts = self._facts(cores)
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:DIGITS]
        path = Path(self.cfg.runs_dir) / FOLDER / f"{name}.json"
        if (known := _read(path, cores)) is not None:
            self._say(f"threads: {known['threads']} of {cores}, as found on {known['date']}; {path} holds the figures")
            return int(known["threads"])
        from pipeline.runner import thread_probe  # here: it opens models

        found = (self.measure or thread_probe.measure)(self.cfg, sorted({1, max(1, cores // 2), cores}))
        chosen = thread_probe.choose(found)
        best = {n: thread_probe.undisturbed(some) for n, some in found.items()}
        kept = {"threads": chosen, "date": time.strftime("%Y-%m-%d"), "made_for": facts}
        for name, of in (("undisturbed", thread_probe.undisturbed), ("median", thread_probe.typical)):
            kept[name] = {str(n): asdict(one := of(some)) | {"whole": one.whole} for n, some in found.items()}
        make_folder(path.parent)
        write_json(path, kept)
        each = ", ".join(f"{1e3 * one.target:.1f} ms on {n}" for n, one in best.items())
        whole = ", ".join(f"{1e3 * one.whole:.1f} ms on {n}" for n, one in best.items())
        self._say(
            f"threads: {chosen} of {cores}: undisturbed, a target forward takes {each}, with a round of {thread_probe.DRAFTS} drafts "
            f"{whole} (more only where they save {thread_probe.MARGIN:.0%}, also in the median; threads=N sets a number)"
        )
        return chosen

    def _facts(self, cores: int) -> dict[str, str | int]:
        """All that the choice depends on."""
        models = {role: external_hash(f"pair.{role}", where) for role, where in pair_external(self.cfg).items()}
        place: dict[str, str | int] = {"processor": device_name("cpu"), "cores": cores, "dtype": self.cfg.dtype}
        return models | place | {"torch": versions()["torch"]}

    def _say(self, text: str) -> None:
        say(self.console, text, whole=True)


def _read(path: Path, cores: int) -> Mapping[str, Any] | None:
    """What an earlier run found; None where there is nothing, or nothing that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        usable = 1 <= found["threads"] <= cores and isinstance(found["date"], str)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if usable else None
