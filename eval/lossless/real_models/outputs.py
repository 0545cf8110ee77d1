"""Outputs of every sampler on the same prompts, in batches, for checks of what comes out (greedy_identity, likelihood).

Results are kept per sampler and batch under a folder named by the code, the models and the settings, so that a run that was cut
off goes on and nothing stale is ever counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from drafters.engine.decode import Decoded
from drafters.engine.limits import Limits
from drafters.errors import DraftersError
from drafters.io.atomic import write_json
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
from eval.suites.suite import SuiteConfig

ZOO = "drafters/zoo/pycode"  # found from any working directory
CUTS = (1.0, 2 / 3, 1 / 3)  # of a suite's prompts: the whole ones, then shorter and shorter beginnings
Piece = TypeVar("Piece")  # what a check finds of one batch: JSON-ready


class OutputsError(DraftersError):
    """A check that cannot be run as asked."""


@dataclass
class LabOptions:
    """The options of the checks of outputs."""

    package: str = ""  # folder of the packaged drafter; none: the newest in runs/package
    target: str = f"{ZOO}/target"  # folder of the target
    drafter: str = f"{ZOO}/drafter"  # folder of the unpruned drafter
    foreign: str = f"{ZOO}/foreign"  # folder of one more drafter; empty: none
    samplers: list[str] = field(default_factory=list)  # names of conf/sampler; none: all, without variants
    compare: bool = False  # also the other drafters' samplers and all variants
    suite: str = "pycode"  # whose prompts: a file of conf/suite
    path: str = ""  # local copy of its rows; empty: the embedded ones
    prompts: int = 200  # how many; a suite of fewer is cut shorter for more
    tokens: int = 128  # new ones per prompt at most
    batch: int = 16  # prompts decoded together
    lookahead: int = 5  # drafted tokens of a chain
    seed: int = 0
    device: str = "cpu"
    out: str = ""  # folder; none: runs/<name of the check>


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
        self, make: Callable[[int, Contender, range], Piece], console: Console
    ) -> Iterator[tuple[Contender, list[Piece]]]:
        """What `make` finds for each contender, batch by batch; what an earlier run found is read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("decoding", total=len(self.contenders) * len(self.batches))
            for index, contender in enumerate(self.contenders):
                path = self.folder / f"{name_of(contender).replace(' ', '.')}.jsonl"
                done: list[Piece] = _whole_lines(path)
                progress.advance(bar, len(done))
                for numbers in self.batches[len(done) :]:
                    done.append(make(index, contender, numbers))
                    with open(path, "a", encoding="utf-8") as stream:
                        stream.write(json.dumps(done[-1], allow_nan=False) + "\n")
                    progress.advance(bar)
                yield contender, done


def name_of(contender: Contender) -> str:
    """The contender's name in tables: sampler and drafter, or plain decoding."""
    key = contender.configuration
    return AUTOREGRESSIVE if key.preset is None else f"{key.preset} {key.drafter}"


def open_lab(options: LabOptions, name: str, temperature: float) -> Lab:
    """Load everything in fp32. Raises OutputsError for an unknown sampler or no package, and as `load_pair` and `drafters.load` do."""
    try:
        chosen = sampler_files.read(chosen=options.samplers or None)
    except ValueError as error:
        raise OutputsError(f"samplers: {error}") from error
    settings = pair_settings({"name": "outputs", "target": options.target, "drafter": options.drafter})
    folder = Path(options.package) if options.package else newest(Path("runs") / "package")
    with quiet(always=True):
        package = load(folder, target=options.target, device=options.device, dtype="fp32")
        models = load_pair(settings, device=options.device, dtype="fp32")
        others = {"foreign": options.foreign} if options.foreign else {}
        drafters = list(lineup(settings, models, package, others, options.device, "fp32"))
    if not options.compare and not options.samplers:
        chosen = [preset for preset in chosen if preset.plain]
    stops = {"static": Static(options.lookahead)}
    found = contenders(drafters, stops, [temperature], chosen, compare=options.compare)
    chosen_suite = suite.named(options.suite, options.path or None)
    prompts = cut_prompts(models, chosen_suite, options.prompts, options.tokens)
    out = Path(options.out or Path("runs") / name) / _key(options, folder, package)
    return Lab(models, prompts, found, out, options.tokens, options.batch, options.seed)


def cut_prompts(models: ModelPair, chosen: SuiteConfig, count: int, tokens: int) -> list[Tensor]:
    """`count` different prompts that leave room for `tokens` more: the suite's, then their beginnings."""
    limit = models.context_lengths[0]
    room = None if limit is None else limit - tokens
    tokenizer = models.target_tokenizer
    whole = [suite.encode(item, tokenizer, room) for item in suite.load(chosen, tokenizer, count)]
    found: dict[tuple[int, ...], Tensor] = {}
    for share in CUTS:
        for ids in whole:
            part = ids[: max(1, round(share * len(ids)))]
            found.setdefault(tuple(part.tolist()), part)
    if len(found) < count:
        raise OutputsError(f"prompts={count}: the suite has {len(found)} prompts and beginnings; ask for at most that")
    return list(found.values())[:count]


def newest(folder: Path) -> Path:
    """The package that was made last. Raises OutputsError where there is none."""
    found = sorted((path.stat().st_mtime, path.parent) for path in folder.glob(f"[!.]*/{NAME}"))
    if not found:
        raise OutputsError(
            f"{folder}: expected a packaged drafter, found none; make one (make package) or name it: package=DIR"
        )
    return found[-1][1]


def save(folder: Path, name: str, result: Mapping[str, object]) -> Path:
    """Write the result as JSON beside the pieces."""
    write_json(folder / f"{name}.json", result)
    return folder / f"{name}.json"


def _key(options: LabOptions, folder: Path, package: Package) -> str:
    """The key of everything that decides a piece's content."""
    settings = {name: value for name, value in asdict(options).items() if name not in ("out", "package")}
    text = json.dumps([code_hash(), folder.name, package.description, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _whole_lines(path: Path) -> list[Any]:
    """The results of a file; a line that a killed run left unfinished is cut off."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    return [json.loads(line) for line in whole]
