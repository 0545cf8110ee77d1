"""package: put everything a drafter needs into one directory that `drafters.load` opens, and open it once.

Reads `prune`, or the last enabled stage after it that changed the drafter. Writes the package of
`drafters.package.writer`: weights with a short head, tokenizer, vocabulary maps, description, licence. Nothing in it
depends on how it performs.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from transformers import PreTrainedModel

from drafters.affinity.prior import AffinityPrior
from drafters.io.borrowed_json import BORROWED, read_borrowed
from drafters.io.hub import local_source
from drafters.io.manifest import NAME, list_files
from drafters.io.paths import REPOSITORY
from drafters.io.safe_load import read_json, read_tensors
from drafters.models.architecture import attention
from drafters.models.model_folder import quiet
from drafters.models.pair import Checkpoint, match_vocabularies, open_checkpoint
from drafters.models.prune import load_pruned
from drafters.models.tail import Tail
from drafters.package.components import AFFINITY, TAIL, load_affinity, load_stop, load_tail
from drafters.package.reader import load
from drafters.package.writer import Origin, describe, folder_revision, plain_name, save_package
from drafters.rounding import excess, logits_bound
from drafters.vocab.alignment import VocabMap
from pipeline.config.settings import drafter_inputs, pair_of, plain, read
from pipeline.runner.stage import Context, Stage, pair_external, say

# Stages that write a drafter in prune's layout, the latest first; those after prune run only where they are enabled.
LATER = ("tail", "distill")
ROLES = ("target", "drafter")


@dataclass
class PackageConfig:
    """What the package says of itself; see `drafters.package.writer.describe`."""

    name: str | None = None  # null: the pair's name
    # Of the drafter's weights, as on the Hub; null: apache-2.0 for the embedded pair, else unknown
    licence: str | None = None
    licence_file: str | None = None  # null: the LICENSE beside the drafter's weights
    target_licence: str | None = None
    sampler: str | None = None  # recommended; null: standard for an unpruned drafter, else tli
    stop: str = "static"  # recommended
    temperature: float = 1.0  # what the drafter was prepared for
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    lookahead: int = 5  # tokens drafted per round
    # Leave what the target has bit for bit (embedding, kept head rows, tokenizer) to it: a package that opens with its target only
    borrow: bool = False


def run(context: Context) -> None:
    """Build the package aside, load it as a user would, then move it into place."""
    folder, settings = context.inputs.get("drafter", context.inputs["prune"]), read(context.cfg.package, PackageConfig)
    parts = Parts(folder, context.inputs.get("affinity"), context.inputs.get("stop"))
    # The runner writes the directory's manifest; one written here first could be taken for it after a crash.
    aside = context.out / f".package.tmp-{os.getpid()}"
    pair = pair_of(context.cfg)
    with context.progress("Packaging", total=2) as bar, quiet(always=True):
        build(pair, settings.name or context.cfg.pair.name, settings, parts, aside)
        bar.advance()
        said = check(aside, folder, pair)
        bar.advance()
    for name in list_files(aside):
        (context.out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(aside / name, context.out / name)
    shutil.rmtree(aside)
    size = sum((context.out / name).stat().st_size for name in list_files(context.out) if name != NAME)
    say(context.console, f"{size / 1e6:,.1f} MB on disk; {said}")
    if settings.borrow:
        found = read_borrowed(local_source(context.out, "package")) if (context.out / BORROWED).exists() else None
        say(
            context.console,
            f"borrowed: {found or 'nothing: no tensor of 1 MB or more is one of the target, bit for bit'}",
        )


@dataclass(frozen=True)
class Parts:
    """Outputs of the stages that the package is put together from."""

    drafter: Path  # in the layout of stage prune
    affinity: Path | None = None
    stop: Path | None = None  # of stage train-disco


def build(pair: Mapping[str, Any], name: str, own: PackageConfig, parts: Parts, out: Path) -> None:
    """Write the package called ``name`` to ``out``."""
    folder = parts.drafter
    target, drafter = (open_checkpoint(role, pair) for role in ROLES)
    foreign = match_vocabularies(target, drafter, pair["foreign"]).foreign
    maps = read_tensors(folder, "vocab.safetensors", ("kept", "to_target", "to_drafter"))
    vocab = VocabMap(to_target=maps["to_target"], to_drafter=maps["to_drafter"])
    pruned = read_json(folder, "report.json")
    licence, text = licence_of(drafter, own.licence, own.licence_file)
    description = describe(
        plain_name(name),
        origin(target, own.target_licence or (licence if embedded(target) else None)),
        # One tokenizer: the package gives its embedding as many rows as the target has, see `fit_vocabulary`.
        origin(drafter, licence, None if foreign else target.vocabulary),
        kept=len(maps["kept"]),
        foreign=foreign,
        eos=target.eos,
        coverage=pruned["coverage"],
        least_covered=pruned.get("least_covered"),
        sampler=own.sampler,
        stop=own.stop,
        generation={key: getattr(own, key) for key in ("temperature", "top_k", "top_p", "lookahead")},
    )
    model = load_pruned(folder / "model", dtype="auto", attn_implementation=attention(drafter.config))
    save_package(
        out,
        model=model,
        tokenizer=drafter.tokenizer,
        kept=maps["kept"],
        vocab=vocab,
        description=description,
        licence=text,
        affinity=prior_of(parts.affinity, vocab),
        tail=tail_of(folder, maps["kept"], target.vocabulary, model.get_output_embeddings().weight.shape[1]),
        stop=None if parts.stop is None else load_stop(parts.stop),
        lender=target.source.folder if own.borrow else None,
    )


def prior_of(folder: Path | None, vocab: VocabMap) -> AffinityPrior | None:
    """The prior that the stage affinity wrote; None where TLI stayed better."""
    if folder is None or not (folder / AFFINITY).is_file():
        return None
    return load_affinity(folder, len(vocab.to_target), len(vocab.to_drafter))


def tail_of(folder: Path, kept: Tensor, vocabulary: int, hidden: int) -> Tail | None:
    """The tail that the stage tail wrote beside the drafter; None where there is none."""
    if not (folder / TAIL).is_file():
        return None
    return load_tail(folder, kept, vocabulary, hidden)


def check(package: Path, folder: Path, pair: Mapping[str, Any]) -> str:
    """Load the package as ``drafters.load`` does and compare it with the drafter it was made of; returns what was seen.

    Weights must be equal. Logits must be so but for rounding: the two files map them at other addresses of memory, by which a
    kernel may sum otherwise. Raises RuntimeError when a weight differs, or a logit by more than `drafters.rounding.logits_bound`.
    """
    loaded = load(package, target=pair["target"], target_revision=pair["target_revision"], device="cpu", dtype="fp32")
    rows = loaded.description["drafter"]
    source = load_pruned(
        folder / "model", dtype=torch.float32, attn_implementation=attention(loaded.model.config)
    ).eval()
    ids = loaded.kept[: min(8, len(loaded.kept))].unsqueeze(0)  # (1, n)
    with torch.inference_mode():
        short, wide, before = (model(input_ids=ids).logits for model in (loaded.drafter, loaded.model, source))
    bound = logits_bound(source, ids)
    off = max(excess(short, before, bound), excess(wide[..., loaded.kept], before, bound))
    if (wrong := other_weights(loaded.drafter, source)) or off > 1:
        raise RuntimeError(
            f"the packaged drafter is not that of {folder}: expected equal weights and logits equal within rounding, got "
            f"{len(wrong)} other weights {wrong[:3]} and logits off by {off:.3g} times what rounding explains; "
            "run stage=prune again with another runs_dir and compare"
        )
    if wide.shape[-1] != rows["vocabulary"] or int(torch.isfinite(wide[0, 0]).sum()) != len(loaded.kept):
        raise RuntimeError(f"expected {rows['kept']} finite of {rows['vocabulary']} logits, got {tuple(wide.shape)}")
    size = f"{rows['kept']:,} of {rows['vocabulary']:,} tokens"
    return f"load check: {size}, weights equal to the pruned drafter's and logits equal within rounding"


def other_weights(model: PreTrainedModel, source: PreTrainedModel) -> list[str]:
    """Names of the parameters in which two models differ by any bit; rows that only one embedding has are padding."""
    expected = dict(source.named_parameters())
    found = dict(model.named_parameters())
    different = [
        name
        for name in expected.keys() & found.keys()
        if not torch.equal(
            *(part[: min(len(found[name]), len(expected[name]))] for part in (found[name], expected[name]))
        )
    ]
    return sorted([*(expected.keys() ^ found.keys()), *different])


def origin(checkpoint: Checkpoint, licence: str | None, vocabulary: int | None = None) -> Origin:
    """Where a model is from, without a path of this machine: a folder or file by its last part and the hash of its content."""
    source = checkpoint.source
    if source.revision is not None:
        name = plain_name(source.id) if source.revision.startswith("sha256:") else source.id
    elif embedded(checkpoint):
        name = source.home.relative_to(REPOSITORY / "drafters").as_posix()
    else:
        name = plain_name(source.home.name)
    return Origin(
        id=name,
        revision=source.revision or folder_revision(source.folder),
        licence=licence,
        vocabulary=vocabulary or checkpoint.vocabulary,
    )


def embedded(checkpoint: Checkpoint) -> bool:
    """Whether the model is one of those that Drafters itself comes with."""
    return checkpoint.source.home.is_relative_to(REPOSITORY / "drafters" / "zoo")


def licence_of(drafter: Checkpoint, name: str | None, file: str | None) -> tuple[str | None, str]:
    """Name and text of the drafter's licence: what the user gave, else the file beside its weights."""
    if file is not None:
        return name, Path(file).expanduser().read_text(encoding="utf-8")
    beside = sorted(drafter.source.folder.glob("LICENSE*"))
    if beside:
        return name, beside[0].read_text(encoding="utf-8")
    own = REPOSITORY / "LICENSE"
    if embedded(drafter) and own.is_file():
        return name or "apache-2.0", own.read_text(encoding="utf-8")
    said = f"is {name}" if name else "is not stated there"
    where = origin(drafter, None).id
    return name, (
        f"The weights in this package derive from {where}. No licence file lay beside them; their licence {said} and "
        "applies to this package too. Set package.licence and package.licence_file before publishing."
    )


def inputs(cfg: DictConfig) -> dict[str, str]:
    """``prune`` gives the report; ``drafter`` is the last enabled stage after it that wrote another drafter."""
    prior = {"affinity": "affinity"} if OmegaConf.select(cfg, "affinity.enabled", default=False) else {}
    stop = {"stop": "train-disco"} if OmegaConf.select(cfg, "train_disco.enabled", default=False) else {}
    return drafter_inputs(cfg, *LATER) | prior | stop


def external(cfg: DictConfig) -> dict[str, str]:
    """Both models: tokenizers, ends of text and licences come from their folders."""
    found = pair_external(cfg)
    if cfg.package.licence_file is not None:
        found["licence"] = cfg.package.licence_file
    return found


def config(cfg: DictConfig) -> dict[str, object]:
    """The settings and the pair's name; where its folders lie is no part of the package."""
    return {**plain(cfg.package), "licence_file": None, "pair": cfg.pair.name, "foreign": cfg.pair.foreign}


def brief(directory: Path) -> str:
    """Summarise the run in one line: how big the package is."""
    size = sum((directory / name).stat().st_size for name in list_files(directory) if name != NAME)
    return f"{size / 1e6:,.1f} MB on disk"


STAGE = Stage(
    name="package",
    run=run,
    inputs=inputs,
    external=external,
    config=config,
    brief=brief,
)
