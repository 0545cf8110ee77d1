"""Runs the toy pipeline in children that are killed at chosen instants, and reports what they left behind.

Started as a program by test_kill.py, so that its forks carry neither threads nor pytest:
``python kill_driver.py <json: {"root", "package", "settings", "mutant", "mode", "points"}>``
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from drafters.io import atomic
from drafters.io import manifest as manifests
from pipeline.runner import seal
from pipeline.runner.runner import Runner


def manifest_first(partial: Path, directory: Path) -> None:
    """Planted bug: the directory gets its manifest before its files."""
    directory.mkdir(exist_ok=True)
    names = sorted(path.name for path in partial.iterdir())
    for name in sorted(names, key=lambda name: name != manifests.NAME):
        os.rename(partial / name, directory / name)
    partial.rmdir()


def write_in_place(path: Path, data: bytes) -> None:
    """Planted bug: a file has its final name before it is whole."""
    with open(path, "wb") as stream:
        stream.write(data[: len(data) // 2])
        stream.flush()
        sys.audit(HALFWAY, str(path))
        stream.write(data[len(data) // 2 :])


HALFWAY = "toy.halfway"  # through a file, which Python itself does not announce
CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", HALFWAY)


class Driver:
    def __init__(self, order: dict) -> None:
        self.root, self.package = Path(order["root"]), order["package"]
        self.cfg = OmegaConf.create(order["settings"])
        self.runs = Path(self.cfg.runs_dir)
        sys.path.insert(0, str(self.root))
        if order["mutant"] == "manifest_first":
            seal.publish = manifest_first
        if order["mutant"] == "write_in_place":
            atomic.write_atomic = write_in_place
        manifests.git_revision()  # asked once, here: the children inherit the answer

    def child(self, event: int | None = None, seconds: float | None = None) -> int:
        """Run the pipeline in a child, killed at its ``event``-th change of the file system or after ``seconds``.

        Returns 0, or minus the number of the signal that ended it.
        """
        if (pid := os.fork()) == 0:
            status = 1
            try:
                if event is not None:
                    die_at(event, str(self.runs))
                Runner(self.cfg, Console(quiet=True), f"{self.package}.stages", self.root, (self.package,)).run("total")
                status = 0
            finally:
                os._exit(status)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)  # a child that is done is a zombie until waited for: nobody else is hit
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def incomplete(self) -> list[str]:
        """Directories that hold a manifest which does not fit their files."""
        found = []
        for path in self.runs.rglob(manifests.NAME):
            try:
                manifests.read_manifest(path.parent)
            except manifests.ManifestError as error:
                found.append(str(error))
        return found

    def outputs(self) -> dict[str, str]:
        """Every published file and its hash, manifests (which hold no times) included."""
        files = [
            path for path in self.runs.rglob("*") if path.is_file() and "/." not in str(path)[len(str(self.root)) :]
        ]
        return {str(path.relative_to(self.runs)): manifests.file_sha256(path) for path in files}

    def worked(self) -> int:
        """How many pieces of work the stages have begun."""
        return Path(self.cfg.journal).read_text().count("\n")

    def fresh(self) -> None:
        shutil.rmtree(self.runs, ignore_errors=True)
        Path(self.cfg.journal).unlink(missing_ok=True)


def die_at(number: int, below: str) -> None:
    """End this process just before the ``number``-th change of the file system under ``below`` from here on."""
    seen = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal seen
        if event not in CHANGES or not str(args[0]).startswith(below):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
            return
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main() -> None:
    order = json.loads(sys.argv[1])
    driver = Driver(order)
    driver.fresh()
    started = time.monotonic()
    assert driver.child() == 0
    duration = time.monotonic() - started
    wanted, clean = driver.outputs(), driver.worked()
    report: dict = {"killed": 0, "incomplete": [], "differing": 0, "failed": 0, "redone": 0}
    rng, event = random.Random(0), 1
    while report["killed"] < order["points"]:
        driver.fresh()
        if order["mode"] == "events":
            if driver.child(event=event) == 0:
                break  # past the last event: every one has been tried
            event += 1
        elif driver.child(seconds=rng.uniform(0, duration)) == 0:
            continue
        report["killed"] += 1
        report["incomplete"] += driver.incomplete()
        report["failed"] += driver.child() != 0
        report["incomplete"] += driver.incomplete()
        report["differing"] += driver.outputs() != wanted
        report["redone"] += driver.worked() > clean + 1  # only the shard that was being written is done twice
        if order["mutant"] and (report["incomplete"] or report["differing"]):
            break  # caught
    print(json.dumps(report))


if __name__ == "__main__":
    main()
