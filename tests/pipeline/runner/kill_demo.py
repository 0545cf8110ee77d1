"""Kill -9 the real demo at random points, check what lies on disk after each, then let it finish.

Not a pytest file: it takes about as long as the demo, several times. Run it by hand:

    .venv/bin/python tests/pipeline/runner/kill_demo.py [--kills 20] [--seed 0] [--longest 40]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drafters.io.manifest import ManifestError, read_manifest


def incomplete(runs: Path) -> list[str]:
    """Directories that carry a manifest but do not match it."""
    bad = []
    for manifest in runs.glob("*/*/manifest.json"):
        if manifest.parent.name.startswith("."):
            continue  # a partial directory does not exist for any reader
        try:
            read_manifest(manifest.parent, verify=True)
        except ManifestError as error:
            bad.append(str(error))
    return bad


def main() -> int:
    """Exit status 0 if nothing incomplete was ever visible and the last run finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=40.0, help="latest kill after this many seconds")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pipeline", "experiment=demo", f"runs_dir={folder}/runs"]
        for number in range(options.kills):
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            delay = chance.uniform(1.0, options.longest)
            time.sleep(delay)
            alive = process.poll() is None
            os.killpg(process.pid, signal.SIGKILL) if alive else None
            process.wait()
            bad = incomplete(Path(folder) / "runs")
            made = sorted(p.parent.parent.name for p in (Path(folder) / "runs").glob("*/[!.]*/manifest.json"))
            state = "killed" if alive else f"ended by itself ({process.returncode})"
            print(
                f"{number + 1:3d}: {state} after {delay:5.1f} s; complete: {made}; incomplete: {len(bad)}", flush=True
            )
            if bad:
                print("\n".join(bad))
                return 1
        last = subprocess.run(command, capture_output=True, text=True, check=False)
        print(last.stdout.splitlines()[-1] if last.stdout else last.stderr)
        return last.returncode


if __name__ == "__main__":
    sys.exit(main())
