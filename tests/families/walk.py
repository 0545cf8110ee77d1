"""Walks a family's pair through everything that a user does with it, in this process, and says of each step how it went."""

import copy
import functools
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from transformers import PreTrainedModel

import drafters
from drafters.errors import DraftersError
from drafters.export.catalog import FORMATS
from drafters.io.hub import local_source
from drafters.models.architecture import attention, model_class, open_config
from drafters.models.model_folder import open_tokenizer
from drafters.rounding import excess, logits_bound
from drafters.samplers.lossy_settings import LossyError
from pipeline.config import hydra_config
from pipeline.doctor.before_run import before_run
from pipeline.doctor.finding import FAIL
from pipeline.doctor.model_checks import model_findings
from pipeline.errors import PipelineError
from pipeline.runner import content_key
from pipeline.runner.runner import Runner
from tests.families.builder import PLAIN, plain, write_pair
from tests.families.family import Family
from tests.families.tokenizer import MORE, TEXT

STAGES = ("count", "prune", "package")
EXPORTS = tuple(f"{name}/{form}" for name, found in FORMATS.items() for form in found.forms)
STEPS = ("doctor", *STAGES, "load", "generate", *(f"export {name}" for name in EXPORTS))
SAMPLERS = (None, "traversal")  # the default one, and a tree
NEW = 32  # tokens; more than any window here
MESSAGES = [{"role": "user", "content": "State the conditions, in 2 or 3 words."}]


@dataclass
class Walk:
    """One family's way. ``cells`` holds one line for each of `STEPS`: "ok...", "refused: ..." or "FAIL ..."."""

    family: Family
    folder: Path
    cells: dict[str, str] = field(default_factory=dict)

    def run(self) -> dict[str, str]:
        """Take every step, also after one that was refused."""
        pair = write_pair(self.family, self.folder / "models")
        self.cfg = _configuration(self.folder, *pair)
        self.target, self.drafter = pair
        self._step("doctor", self._doctor)
        for stage in STAGES:
            self._step(stage, functools.partial(self._stage, stage))
        self._step("load", self._load)
        self._step("generate", self._generate)
        for name in EXPORTS:
            self._step(f"export {name}", functools.partial(self._export, name))
        assert tuple(self.cells) == STEPS
        return self.cells

    def _step(self, name: str, act: Callable[[], str]) -> None:
        try:
            self.cells[name] = f"ok {act()}".strip()
        except (DraftersError, PipelineError) as error:
            self.cells[name] = f"refused: {error}"
        except Exception as error:  # a fault: the table shows it, the test fails by it
            self.cells[name] = f"FAIL {type(error).__name__}: {error}"

    def _doctor(self) -> str:
        if not (unset := self.family.unset):
            return self._examined()
        with pytest.raises(PipelineError, match=re.escape(f"pair.unset=[{', '.join(unset)}]")):
            self._examined()
        self.cfg.pair.unset = list(unset)
        return f"{self._examined()}with pair.unset=[{', '.join(unset)}]"

    def _examined(self) -> str:
        found = list(model_findings(self.cfg))
        if failed := [finding.text for finding in found if finding.state == FAIL and finding.check != "memory"]:
            raise PipelineError("; ".join(failed))
        return ""

    def _stage(self, name: str) -> str:
        folder = Runner(self.cfg, Console(file=io.StringIO()), before=before_run).run(name)
        if name == "package":
            self.package = folder
        return ""

    def _load(self) -> str:
        package = drafters.load(self._made(), device="cpu")
        ids = torch.tensor([plain(open_tokenizer(local_source(self.drafter, "drafter"), ""))])
        self.logits = _open(self.drafter)(ids).logits
        off = excess(package.drafter(ids).logits, self.logits[..., package.kept], logits_bound(package.drafter, ids))
        assert off <= 1, f"logits are {off:.3g} times off what rounding explains"
        self.ids = ids
        return f"{len(package.kept)} of {package.description['drafter']['vocabulary']}"

    def _made(self) -> Path:
        if not hasattr(self, "package"):
            raise PipelineError(self.cells["package"].removeprefix("refused: "))
        return self.package

    def _generate(self) -> str:
        package, target = drafters.load(self._made(), device="cpu"), _open(self.target)
        drafted = accepted = 0
        for name in self.family.unset:
            _refuses(target, package, name)
            setattr(target.generation_config, name, None)
        for number, prompt in enumerate(self._prompts()):
            expected = _stock(target, prompt)
            for sampler in SAMPLERS:
                done = drafters.generate(target, package, prompt, sampler=sampler, temperature=0.0, max_new_tokens=NEW)
                got = done.tokens[0].tolist()
                assert got == expected, f"{sampler}: expected {expected}, got {got}"
                drafted, accepted = drafted + int(done.drafted), accepted + int(done.accepted)
            assert number or len(expected) < NEW, f"the text does not end: {expected}"
        return f"{accepted} of {drafted} accepted"

    def _prompts(self) -> Iterator[torch.Tensor]:
        tokenizer = open_tokenizer(local_source(self.target, "target"), "")
        yield torch.tensor(plain(tokenizer))
        if (whole := tokenizer.encode(PLAIN)) != plain(tokenizer):
            yield torch.tensor(whole)
        if tokenizer.chat_template is not None:
            text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
            yield torch.tensor(tokenizer.encode(text, add_special_tokens=False))

    def _export(self, name: str) -> str:
        self._made()
        self.cfg.export.to, self.cfg.export.form = name.split("/")
        folder = Runner(self.cfg, Console(file=io.StringIO()), before=before_run).run("export")
        note = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        assert note["checked"], note
        if name.endswith("/padded"):
            for file in self.family.drafter.files:
                assert (folder / file).read_bytes() == (self.drafter / file).read_bytes(), file
            model, rows = _open(folder), slice(self.logits.shape[-1])
            got, bound = model(self.ids).logits[..., rows], logits_bound(model, self.ids)[..., rows]
            assert excess(got, self.logits[..., : got.shape[-1]], bound) <= 1
        if (config := folder / "config.json").exists():
            assert json.loads(config.read_text(encoding="utf-8"))["dtype"] == self.family.drafter.dtype
        return ""


@functools.cache
def _composed() -> DictConfig:
    return hydra_config.load(
        ["stage=export", "pair=local", "pair.target=x", "pair.drafter=x", "corpus=local", "corpus.path=x"]
    )


def _configuration(folder: Path, target: Path, drafter: Path) -> DictConfig:
    """The settings of ``pair=local corpus=local`` for these folders."""
    text = folder / "text.jsonl"
    pieces = [*TEXT.read_text(encoding="utf-8").split("\n\n"), MORE]
    text.write_text("".join(json.dumps({"text": piece}) + "\n" for piece in pieces), encoding="utf-8")
    cfg = copy.deepcopy(_composed())
    for key, value in {
        "pair.target": str(target), "pair.drafter": str(drafter), "corpus.path": str(text), "runs_dir": str(folder / "runs"),
        "count.workers": 1, "prune.fraction": 0.6, "device": "cpu", "threads": 1,
    }.items():  # fmt: skip
        OmegaConf.update(cfg, key, value)
    return cfg


def _open(folder: Path) -> PreTrainedModel:
    """The model as a user opens it."""
    config = open_config(local_source(folder, "model"), "")
    options = {"dtype": torch.float32, "attn_implementation": attention(config)}
    return model_class(config).from_pretrained(folder, **options).eval().requires_grad_(False)


def _stock(target: PreTrainedModel, prompt: torch.Tensor) -> list[int]:
    ids = prompt.unsqueeze(0)
    with torch.inference_mode():
        out = target.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)
    return out[0, len(prompt) :].tolist()


def _refuses(target: PreTrainedModel, package: drafters.Package, name: str) -> None:
    """What doctor asks to unset is refused as long as it is set."""
    with pytest.raises(LossyError, match=name):
        drafters.generate(target, package, torch.tensor([1]), temperature=0.0, max_new_tokens=1)


_hash = functools.cache(content_key.closure_hash)


def walk(family: Family, folder: Path) -> dict[str, str]:
    """Take a family through all `STEPS` below an empty ``folder``, which is removed."""
    with pytest.MonkeyPatch.context() as patch:  # our source does not change in between
        patch.setattr(content_key, "closure_hash", _hash)
        try:
            return Walk(family, folder).run()
        finally:
            shutil.rmtree(folder)


def wrong(family: Family, cells: dict[str, str]) -> list[str]:
    """The steps that did not go as the family's row says, each with how it went."""
    found = []
    for step, cell in cells.items():
        texts = [text for pattern, text in family.expected.items() if fnmatch(step, pattern)]
        as_said = cell.startswith("refused: ") and texts[0] in cell if texts else cell.startswith("ok")
        found += [] if as_said else [f"{step}: {cell}"]
    return found
