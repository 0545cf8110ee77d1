"""What is watched, opened: the pair, a package or the whole drafter, the prompt, and the call that decodes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from drafters.decode_call import DecodeCall, check_settings
from drafters.decoding_choice import Asked, DecodingPlan, default_sampler
from drafters.engine import decode
from drafters.engine.limits import Limits
from drafters.engine.rounds import Round
from drafters.engine.transformers_pair import full_map, pair_of
from drafters.io.manifest import NAME, ManifestError, read_manifest
from drafters.models.model_folder import quiet
from drafters.models.pair import ModelPair, load_pair, vocabulary_size
from drafters.package.reader import Package, load
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.samplers.draft import Sampler
from drafters.stop import catalog as stops
from drafters.vocab.protected import usual_template
from drafters.vocab.texts import read_texts
from eval.suites.suite import Prompt, encode
from pipeline.config import settings
from pipeline.doctor.before_run import before_run
from pipeline.errors import ConfigError
from pipeline.runner.content_key import external_hash
from pipeline.runner.runner import Runner
from pipeline.runner.stage import pair_external, say
from pipeline.watch.lane import Lane
from pipeline.watch.options import WatchOptions
from pipeline.watch.transcript import Transcript

NO_PACKAGE = "none"
PYTHON = 'def count_words(text):\n    """Return how often each word occurs in a text."""\n'
QUESTION = "How do trees drink water? Answer in a few sentences."
STORY = "Once upon a time"


@dataclass(frozen=True)
class Watched:
    """A prompt and how it is decoded."""

    models: ModelPair
    call: DecodeCall
    prompt: str  # as it was given, before any template
    drafter: str  # in words
    notes: tuple[str, ...] = ()

    @property
    def ids(self) -> Tensor:
        """The prompt's ids, int64 (n,)."""
        return self.call.prompts[0]

    @property
    def sampler(self) -> Sampler:
        """The sampler by which drafts are made and verified."""
        assert self.call.chosen.sampler is not None  # `opened` sees to that
        return self.call.chosen.sampler

    @property
    def coupled(self) -> bool:
        """Whether plain decoding with the same coins writes the same text, but for rounding."""
        return self.call.limits.sampling.greedy or self.sampler.verifier.positional

    @property
    def title(self) -> str:
        """What the drafting lane is called: its sampler and drafter."""
        return f"{self.sampler.name}, {self.drafter}"

    def rounds(self, drafts: bool, ids: Tensor | None = None, tokens: int | None = None) -> Iterator[Round]:
        """The rounds of the call, or of plain decoding with its coins; of another prompt or length where they are given."""
        call, limits = self.call, self.call.limits
        if tokens is not None:
            limits = Limits(tokens, limits.sampling)
        prompt = self.ids if ids is None else ids
        if drafts:
            return decode.stream_rounds(call.pair, self.sampler, call.chosen.stop, prompt, call.coins, limits)
        drawn_by = self.sampler.verifier if self.sampler.verifier.positional else None  # then its texts are equal
        return decode.stream_rounds(call.pair, None, None, prompt, call.coins, limits, drawn_by)

    def lanes(self, race: bool) -> list[Lane]:
        """The drafting lane, and beside it plain decoding's where they race, both warm."""
        kinds = (True, False) if race else (True,)
        if race:  # the first forwards of a process are slow: neither pays for them
            for drafts in kinds:
                list(self.rounds(drafts, self.ids[:4], tokens=6))
        titles = {True: self.title, False: "plain decoding"}
        tokenizer, ids = self.models.target_tokenizer, self.ids.tolist()
        return [
            Lane(titles[drafts], partial(self.rounds, drafts), Transcript.behind(tokenizer, ids)) for drafts in kinds
        ]


def opened(cfg: DictConfig, options: WatchOptions, folder: str | Path) -> Watched:
    """Load everything. Raises as `load_pair`, `drafters.load` and `drafters.generate` do, and ConfigError for a wrong name."""
    with quiet(always=True):
        pair = settings.pair_of(cfg)
        models = load_pair(pair, device=cfg.device, dtype=cfg.dtype)
        name, _, revision = str(folder).partition("@")
        package = None if name == NO_PACKAGE else _package(name, revision or None, pair, cfg)
    text = options.prompt or own_prompt(str(cfg.pair.name), usual_template(models.target_tokenizer) is not None)
    ids = encode(Prompt("prompt", "watch", text, ({"role": "user", "content": text},)), models.target_tokenizer)
    try:
        if package is not None:
            return of_package(models, package, text, ids, options)
        return of_whole_drafter(models, text, ids, options, int(cfg.package.lookahead))
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error


def _package(name: str, revision: str | None, pair: Mapping[str, Any], cfg: DictConfig) -> Package:
    """The package, with what it may borrow of the pair's target."""
    lender = {"target": pair["target"], "target_revision": pair["target_revision"]}
    return load(name, revision, **lender, device=cfg.device, dtype=cfg.dtype)


def own_prompt(pair: str, chats: bool) -> str:
    """The prompt of a pair for which none was given."""
    return QUESTION if chats else PYTHON if pair.startswith("pycode") else STORY


def of_package(models: ModelPair, package: Package, text: str, ids: Tensor, options: WatchOptions) -> Watched:
    """A packaged drafter. It drafts also where its evaluation recommends plain decoding, which there is little to see of."""
    asked = Asked(options.sampler or None, options.stop or None, options.lookahead or None)
    tokenizer = models.target_tokenizer
    make = lambda asked: DecodeCall.of(  # noqa: E731
        models.target, package, (ids, None), asked, options.sampling, options.max_new_tokens, options.seed, (), tokenizer, False
    )  # fmt: skip
    call, notes = make(asked), []
    if call.chosen.sampler is None:
        call = make(Asked(default_sampler(package)))
        notes.append("its evaluation recommends plain decoding here; this drafts all the same")
    rows = package.description["drafter"]
    drafter = f"{rows['kept']:,} of {rows['vocabulary']:,} tokens kept" if package.pruned else "package"
    tail = ", with its tail" if call.chosen.tailed else ""
    return Watched(models, call, text, drafter + tail, tuple(notes))


def of_whole_drafter(models: ModelPair, text: str, ids: Tensor, options: WatchOptions, length: int) -> Watched:
    """The drafter before it was pruned, without a package."""
    check_settings(models.target, models.drafter)
    pair = pair_of(models)
    rows = max(vocabulary_size(models.drafter.config), 0 if models.foreign else models.vocabulary)
    texts = partial(read_texts, models.target_tokenizer, models.drafter_tokenizer, models.vocabulary, rows)
    sampler = build(options.sampler or ("tli" if models.foreign else "standard"), full_map(models), texts=texts)
    name = options.stop or "static"
    stop = stops.build(name, {"length": options.lookahead or length} if name == "static" else {})
    chosen = DecodingPlan(sampler, stop)
    coins = KeyedCoins(options.seed, torch.arange(1, device=pair.device))
    call = DecodeCall(pair, chosen, [ids], coins, Limits(options.max_new_tokens, options.sampling))
    return Watched(models, call, text, "the whole drafter")


def package_of(cfg: DictConfig, made_anew: bool, console: Console) -> Path | str:
    """The package made last of this pair, else "none"; where settings ask for another, that of stage package."""
    if made_anew:
        return Runner(cfg, console, before=before_run).run("package")
    found = newest_package(Path(cfg.runs_dir), pair_external(cfg))
    if found is None:  # making one takes minutes to hours, and there is something to see without
        say(console, f"no package of this pair in {cfg.runs_dir}: its whole drafter drafts; make package prunes it")
    return found or NO_PACKAGE


def newest_package(runs: Path, pair: dict[str, str]) -> Path | None:
    """The folder of the package made last of exactly these models, role -> path or pinned name; None without one."""
    models = {role: external_hash(f"pair.{role}", where) for role, where in pair.items()}
    found = []
    for file in (runs / "package").glob(f"[!.]*/{NAME}"):
        try:
            made_of = read_manifest(file.parent, verify=False).extra.get("external", {})
        except ManifestError:
            continue
        if models.items() <= made_of.items():
            found.append((file.stat().st_mtime, file.parent))
    return max(found)[1] if found else None
