"""Converts a GGUF in children that are killed at every change of the file system, and reports what they left behind.

Started as a program by test_cache.py, so that its forks carry no pytest: ``python kill_driver.py FOLDER [in_place]``. The conversion
itself is a double that writes three files: what is tried is the cache around it.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from drafters.io import manifest
from drafters.models.gguf import cache

CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)), "tokenizer.json": b"{}"}


def convert(file: Path, header: object, key: str, out: Path) -> None:
    with open(file.with_suffix(".log"), "a") as log:
        log.write("converted\n")
    for name, data in FILES.items():
        (out / name).write_bytes(data[: len(data) // 2])
        with open(out / name, "ab") as stream:
            stream.write(data[len(data) // 2 :])
    manifest.write_manifest(out, kind="model", key=key, config={}, inputs={})


def in_place(file: Path, digest: str) -> Path:
    """Planted bug: the folder has its name before it is whole."""
    place = cache._place(file, digest)
    if not place.is_dir():
        place.mkdir(parents=True)
        convert(file, None, place.name, place)
    return place


def child(file: Path, digest: str, event: int | None, pause: float = 0.0) -> int:
    """Convert in a child, killed at its ``event``-th change below the cache; returns its status."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1] if not pause else pid
    seen, home = 0, str(file.parent)

    def hook(name: str, arguments: tuple) -> None:
        nonlocal seen
        writes = name != "open" or (arguments[1] and set(str(arguments[1])) & set("wax+"))
        if name in CHANGES and writes and str(arguments[0]).startswith(home):
            seen += 1
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    time.sleep(pause)
    cache.converted(file, digest)
    os._exit(0)


def whole(folder: Path) -> bool:
    return all((folder / name).is_file() and (folder / name).read_bytes() == data for name, data in FILES.items())


def main(folder: Path, mutant: str = "") -> dict[str, object]:
    file = folder / "tiny.gguf"
    file.write_bytes(b"GGUF")
    cache.check_installed = lambda name: None
    cache.converters = lambda: {"transformers": "1"}
    cache.read_gguf_header, cache.convert = lambda path: None, convert
    if mutant:
        cache.converted = in_place
    manifest.git_revision()  # asked once, here: the children inherit the answer
    digest = manifest.file_sha256(file)
    place, killed, taken, left = cache._place(file, digest), 0, 0, 0
    for event in range(1, 1000):
        died = child(file, digest, event) == signal.SIGKILL
        killed += died
        taken += place.is_dir() and not whole(place)
        if mutant and taken:
            return {"incomplete": taken}
        assert child(file, digest, None) == 0, event
        assert whole(place), event
        left += sum(1 for path in place.parent.iterdir() if path != place and not path.name.endswith(".lock"))
        for path in (*place.iterdir(), place):
            path.rmdir() if path.is_dir() else path.unlink()
        if not died:
            break
    file.with_suffix(".log").unlink()
    for pid in [child(file, digest, None, pause=0.01 * (number + 1)) for number in range(3)]:
        assert os.waitpid(pid, 0)[1] == 0
    log = file.with_suffix(".log").read_text().splitlines()
    return {"killed": killed, "incomplete": taken, "left": left, "conversions": len(log)}


if __name__ == "__main__":
    os.environ["DRAFTERS_CACHE"] = str(Path(sys.argv[1]) / "cache")
    print(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))
