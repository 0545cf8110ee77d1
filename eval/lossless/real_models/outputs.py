"""Outputs of every sampler on the same prompts, in batches, for checks of what comes out (greedy_identity, likelihood).

Results are kept per sampler and batch under a folder named by the code, the models and the settings, so that a run that was cut
off goes on and nothing stale is ever counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from drafters.engine.decode import Decoded
from drafters.engine.limits import Limits
from drafters.errors import DraftersError
from drafters.io.manifest import NAME
from drafters.models.model_folder import quiet
from drafters.models.pair import ModelPair, load_pair, pair_settings
from drafters.package.reader import Package, load
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.stop.policies.static import Static
from eval.lossless.certificate import code_hash
from eval.run import sampler_files
from eval.run.compared_drafters import lineup
from eval.run.configurations import Contender, contenders
from eval.run.records import AUTOREGRESSIVE
from eval.suites import suite

ZOO = Path(__file__).resolve().parents[3] / "drafters" / "zoo" / "pycode"
CUTS = (1.0, 2 / 3, 1 / 3)  # of a suite's prompts: the whole ones, then shorter and shorter beginnings
SUITE = {"name": "pycode", "path": "pycode.jsonl", "id": ["id"], "template": "{prompt}"}
Batch = dict[str, Any]


class OutputsError(DraftersError):
    """A check that cannot be run as asked."""


@dataclass(frozen=True)
class Lab:
    """Models, prompts and samplers of one check."""

    models: ModelPair
    prompts: list[Tensor]  # int64 (n,)
    contenders: list[Contender]  # the first is plain decoding
    folder: Path
    tokens: int
    batch: int
    seed: int

    @property
    def batches(self) -> list[range]:
        """Numbers of the prompts decoded together."""
        starts = range(0, len(self.prompts), self.batch)
        return [range(start, min(start + self.batch, len(self.prompts))) for start in starts]

    def decode(self, contender: Contender, numbers: range, stream: int = 0) -> Decoded:
        """A contender's continuations of these prompts; runs of different `stream` share no coins."""
        sampling = Sampling(contender.configuration.temperature)
        requests = torch.tensor(list(numbers)) + stream * len(self.prompts)
        coins = KeyedCoins(self.seed, requests.to(self.models.target.device))
        return contender.decode([self.prompts[number] for number in numbers], coins, Limits(self.tokens, sampling))

    def results(
        self, make: Callable[[int, Contender, range], Batch], console: Console
    ) -> Iterator[tuple[Contender, list[Batch]]]:
        """What `make` finds for each contender, batch by batch; what an earlier run found is read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("decoding", total=len(self.contenders) * len(self.batches))
            for index, contender in enumerate(self.contenders):
                path = self.folder / f"{name_of(contender).replace(' ', '.')}.jsonl"
                done = _whole_lines(path)
                progress.advance(bar, len(done))
                for numbers in self.batches[len(done) :]:
                    done.append(make(index, contender, numbers))
                    with open(path, "a", encoding="utf-8") as stream:
                        stream.write(json.dumps(done[-1], allow_nan=False) + "\n")
                    progress.advance(bar)
                yield contender, done


def name_of(contender: Contender) -> str:
    """Sampler and drafter."""
    key = contender.configuration
    return AUTOREGRESSIVE if key.preset is None else f"{key.preset} {key.drafter}"


def parser(description: str, out: str) -> argparse.ArgumentParser:
    """The command line that both checks share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--package", type=Path, help="packaged drafter (default: the newest in runs/package)")
    made.add_argument("--target", default=str(ZOO / "target"), help="folder of the target (default: the embedded one)")
    made.add_argument("--drafter", default=str(ZOO / "drafter"), help="folder of the unpruned drafter")
    made.add_argument("--foreign", default=str(ZOO / "foreign"), help="folder of one more drafter; '' for none")
    made.add_argument("--samplers", help="names of conf/sampler with commas between (default: all, without variants)")
    made.add_argument("--compare", action="store_true", help="also the other drafters' samplers and all variants")
    made.add_argument("--prompts", type=int, default=200, help="how many; a suite of fewer is cut shorter for more")
    made.add_argument("--tokens", type=int, default=128, help="new tokens per prompt at most")
    made.add_argument("--batch", type=int, default=16, help="prompts decoded together")
    made.add_argument("--lookahead", type=int, default=5, help="drafted tokens of a chain")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cpu")
    made.add_argument("--out", type=Path, default=Path("runs") / out)
    return made


def open_lab(args: argparse.Namespace, temperature: float) -> Lab:
    """Load everything in fp32. Raises OutputsError without a package, and as `load_pair` and `drafters.load` do."""
    settings = pair_settings({"name": "outputs", "target": args.target, "drafter": args.drafter})
    folder = args.package or newest(Path("runs") / "package")
    with quiet(always=True):
        package = load(folder, device=args.device, dtype="fp32")
        models = load_pair(settings, device=args.device, dtype="fp32")
        others = {"foreign": args.foreign} if args.foreign else {}
        drafters = list(lineup(settings, models, package, others, args.device, "fp32"))
    chosen = sampler_files.read(chosen=args.samplers.split(",") if args.samplers else None)
    if not args.compare and not args.samplers:
        chosen = [preset for preset in chosen if preset.plain]
    stops = {"static": Static(args.lookahead)}
    found = contenders(drafters, stops, [temperature], chosen, compare=args.compare)
    prompts = cut_prompts(models, args.prompts, args.tokens)
    return Lab(models, prompts, found, args.out / _key(args, folder, package), args.tokens, args.batch, args.seed)


def cut_prompts(models: ModelPair, count: int, tokens: int) -> list[Tensor]:
    """`count` different prompts that leave room for `tokens` more: the suite's, then their beginnings."""
    limit = models.context_lengths[0]
    room = None if limit is None else limit - tokens
    whole = [suite.encode(item, models.target_tokenizer, room) for item in suite.load(SUITE, models.target_tokenizer)]
    found: dict[tuple[int, ...], Tensor] = {}
    for share in CUTS:
        for ids in whole:
            part = ids[: max(1, round(share * len(ids)))]
            found.setdefault(tuple(part.tolist()), part)
    if len(found) < count:
        raise OutputsError(
            f"--prompts {count}: the suite has {len(found)} prompts and beginnings; ask for at most that"
        )
    return list(found.values())[:count]


def newest(folder: Path) -> Path:
    """The package that was made last. Raises OutputsError where there is none."""
    found = sorted((path.stat().st_mtime, path.parent) for path in folder.glob(f"[!.]*/{NAME}"))
    if not found:
        raise OutputsError(
            f"{folder}: expected a packaged drafter, found none; make one (make package) or name it: --package DIR"
        )
    return found[-1][1]


def save(folder: Path, name: str, result: dict[str, Any]) -> Path:
    """Write the result as JSON beside the pieces."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _key(args: argparse.Namespace, folder: Path, package: Package) -> str:
    """Of everything that decides a piece's content."""
    settings = {name: str(value) for name, value in vars(args).items() if name not in ("out", "package")}
    text = json.dumps([code_hash(), folder.name, package.description, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _whole_lines(path: Path) -> list[Batch]:
    """The results of a file; a line that a killed run left unfinished is cut off."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    return [json.loads(line) for line in whole]


def run(main: Callable[[Sequence[str] | None], int]) -> Callable[[], int]:
    """`main` as a command: errors that a user can put right are said in one line."""
    return partial(_run, main)


def _run(main: Callable[[Sequence[str] | None], int]) -> int:
    try:
        return main(None)
    except (DraftersError, ValueError) as error:
        print(f"error: {error}")
        return 2
