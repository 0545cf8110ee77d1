"""affinity: the RDK prior of a pruned drafter: where the mass of its kept tokens should go, and how much of it.

Text is read under teacher forcing in three parts, split by document: sums for the priors and the shares per donor come
from the first, prior and share are chosen on the second, and what that is worth is measured on the third, untouched,
against TLI with a paired bootstrap. If the share that wins is 0, no prior is written and TLI stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from drafters.affinity.prior import AffinityPrior, Statistics, acceptance_by_share, candidate_priors
from drafters.affinity.share_fit import ShareFit
from drafters.io.atomic import write_atomic, write_json
from drafters.io.safe_load import read_json
from drafters.models.model_folder import quiet
from drafters.package.components import AFFINITY
from drafters.probs import warp
from drafters.samplers.proposal.rdk import RDK
from drafters.samplers.proposal.tli import TLI
from eval.run.metrics import decimals
from eval.stats.bootstrap import estimate
from pipeline.config import text_settings as texts
from pipeline.config.settings import read
from pipeline.config.text_settings import source_of
from pipeline.fit.teacher_forcing import pieces
from pipeline.fit.text_and_models import Reading, Window, keep_test, open_reading
from pipeline.runner.stage import Advance, Context, Stage, Workspace, say

REPORT = "report.json"
SCALES = torch.tensor([0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])  # times a prior's own shares
STRIDE = 4  # of the positions that prior and scale are chosen on: neighbours tell nearly the same


@dataclass
class AffinityConfig:
    """How much text is read, and what a prior may hold."""

    # False: the package holds no prior, and the samplers rdk and rdk_exact do not apply
    enabled: bool = True
    # corpus | generations: the target's own text, made by the stage generate
    source: str = "corpus"
    # Of text, all three parts together: fit, calibrate, test
    tokens: int = 100_000
    window: int = 256  # tokens read at once
    windows_per_document: int = 2
    # Pruned tokens that one donor of the co-occurrence prior may give to
    neighbours: int = 32
    min_documents: int = 5  # that a pruned token must occur in before a donor may single it out


def run(context: Context) -> None:
    """Estimate, calibrate, measure; write the prior if it wins, and the report either way."""
    settings = read(context.cfg.affinity, AffinityConfig)
    with context.progress("Opening models and text", None):
        reading = open_reading(source_of(context, "affinity"), settings)
    if isinstance(reading, str):
        _finish(context, None, {"prior": None, "reason": reading})
        return
    if reading.sampling.greedy:
        _finish(context, None, {"prior": None, "reason": "at temperature 0 all mass is on one token and stays there"})
        return
    parts = reading.texts
    total = 2 * len(parts["fit"]) + len(parts["calibrate"]) + len(parts["test"])
    say(
        context.console,
        f"reading {total} windows of up to {settings.window} tokens with both models; only sums are kept",
    )
    with context.progress("Fitting priors", total=total) as bar, quiet(always=True):
        priors = _priors(context.out, reading, settings, bar.advance)
        chosen, scale = calibrated(reading, parts["calibrate"], priors, bar.advance)
        measured = _measured(reading, parts["test"], None if chosen is None else priors[chosen], scale, bar.advance)
    if chosen is not None:
        keep_test(context.out, reading)
    _conclude(context, priors, chosen, scale, measured, int(context.cfg.seed))


def laws(reading: Reading, text: list[Window]) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """(document, ids (n,), p (n, V), q (n, D)) of each window, as they will be served."""
    found = pieces(reading.target, reading.drafter, (ids for _, ids in text), reading.sampling)
    for (document, ids), piece in zip(text, found, strict=True):
        yield document, ids, piece.p.cpu(), warp(piece.logits, reading.sampling).cpu()


def _priors(out: Path, reading: Reading, settings: AffinityConfig, advance: Advance) -> dict[str, AffinityPrior]:
    """The candidates by name, with the shares that are scaled; a pass that a killed run had finished is read back."""
    text = reading.texts["fit"]
    first, second = (out / f".{name}.safetensors" for name in ("estimated", "shares"))
    found = _read(first)
    if found is None:
        found = _estimated(reading, text, settings, advance)
        write_atomic(first, save(_flat(found)))
    else:
        advance(len(text), kept=True)
    if "mean" in found:
        more = _read(second)
        if more is None:
            fit = ShareFit(found["mean"], reading.vocab, len(text))
            for _, _, p, q in laws(reading, text):
                fit.step(p, q)
                advance(1)
            more = {"mean_per_donor": fit.result()}
            write_atomic(second, save(_flat(more)))
        else:
            advance(len(text), kept=True)
        found |= more
    first.unlink(missing_ok=True)
    second.unlink(missing_ok=True)
    return found


def _estimated(
    reading: Reading, text: list[Window], settings: AffinityConfig, advance: Advance
) -> dict[str, AffinityPrior]:
    statistics = Statistics(reading.vocab.to_drafter.shape[0])
    held: dict[int, list[Tensor]] = {}
    for document, ids, p, q in laws(reading, text):
        statistics.add(p, q, reading.vocab)
        held.setdefault(document, []).append(ids)
        advance(1)
    for parts in held.values():
        statistics.seen(torch.cat(parts))
    return candidate_priors(statistics, reading.vocab, settings.min_documents, settings.neighbours)


def _flat(priors: dict[str, AffinityPrior]) -> dict[str, Tensor]:
    return {
        f"{name}/{field}": part.contiguous() for name, prior in priors.items() for field, part in vars(prior).items()
    }


def _read(path: Path) -> dict[str, AffinityPrior] | None:
    if not path.exists():
        return None
    parts = load_file(path)
    names = dict.fromkeys(key.partition("/")[0] for key in parts)
    return {
        name: AffinityPrior(*(parts[f"{name}/{field}"] for field in ("index", "weight", "share"))) for name in names
    }


def calibrated(
    reading: Reading, text: list[Window], priors: dict[str, AffinityPrior], advance: Advance
) -> tuple[str | None, float]:
    """The prior and the scale of its shares with the best mean acceptance; (None, 0) where none beats TLI."""
    sums = {name: torch.zeros(len(SCALES), dtype=torch.float64) for name in priors}
    lifts = {name: RDK(reading.vocab, prior) for name, prior in priors.items()}
    for _, ids, *both in laws(reading, text):
        p, q = (law[::STRIDE] for law in both)
        kept = TLI(reading.vocab).lift(q)
        for name, rdk in lifts.items():
            sums[name] += acceptance_by_share(p, kept, rdk.lift(q), SCALES) * len(ids)
        advance(1)
    best = max(priors, key=lambda name: float(sums[name].max()), default=None)
    if best is None or int(sums[best].argmax()) == 0:
        return None, 0.0
    return best, float(SCALES[int(sums[best].argmax())])


def _measured(
    reading: Reading, text: list[Window], prior: AffinityPrior | None, scale: float, advance: Advance
) -> dict[int, Tensor]:
    """Per document: fp64 (3,) tokens, summed acceptance of TLI, and with the prior."""
    found: dict[int, Tensor] = {}
    if prior is None:
        advance(len(text), kept=True)
        return found
    rdk, scales = RDK(reading.vocab, scaled(prior, scale)), torch.tensor([0.0, 1.0])
    for document, ids, p, q in laws(reading, text):
        pair = acceptance_by_share(p, TLI(reading.vocab).lift(q), rdk.lift(q), scales)
        row = torch.cat([torch.ones(1), pair]) * len(ids)
        found[document] = found.get(document, torch.zeros(3, dtype=torch.float64)) + row
        advance(1)
    return found


def scaled(prior: AffinityPrior, scale: float) -> AffinityPrior:
    """The prior with its shares multiplied."""
    return AffinityPrior(prior.index, prior.weight, prior.share * scale)


def paired_gain(documents: Tensor, seed: int = 0) -> tuple[float, float, float]:
    """Gain in acceptance with its 95 % interval, from rows (tokens, sum before, sum after) of documents, resampled whole."""
    tokens, before, after = documents.numpy().T
    return estimate(lambda tokens, before, after: (after - before) / tokens, tokens, before, after, seed=seed)


def _conclude(
    work: Workspace,
    priors: dict[str, AffinityPrior],
    chosen: str | None,
    scale: float,
    measured: dict[int, Tensor],
    seed: int,
) -> None:
    """Say what won, and write it."""
    if chosen is None:
        _finish(work, None, {"prior": None, "reason": "no prior was better than TLI on the calibration text"})
        return
    rows = torch.stack(list(measured.values()))
    gain, low, high = paired_gain(rows, seed)
    tli, rdk = (float(rows[:, column].sum() / rows[:, 0].sum()) for column in (1, 2))
    prior = scaled(priors[chosen], scale)
    report = {
        "prior": chosen, "scale": scale, "mean_share": float(prior.share.mean()), "neighbours": prior.index.shape[1],
        "donors": prior.share.shape[0], "acceptance_tli": tli, "acceptance_rdk": rdk, "gain": gain, "gain_low": low,
        "gain_high": high, "test_tokens": int(rows[:, 0].sum()), "test_documents": len(rows),
    }  # fmt: skip
    _finish(work, prior, report)


def _finish(work: Workspace, prior: AffinityPrior | None, report: Mapping[str, Any]) -> None:
    """Write the prior, if there is one, and the report."""
    if prior is not None:
        tensors = {"index": prior.index, "weight": prior.weight, "share": prior.share}
        write_atomic(work.out / AFFINITY, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        digits = decimals(report["gain_low"], report["gain_high"], 3)
        say(
            work.console,
            f"prior '{report['prior'].replace('_', ' ')}': acceptance {report['acceptance_tli']:.3f} -> "
            f"{report['acceptance_rdk']:.3f} on unseen text (gain {report['gain']:+.{digits}f}, 95 % "
            f"{report['gain_low']:+.{digits}f} to {report['gain_high']:+.{digits}f})",
        )
    else:
        say(work.console, f"no prior: {report['reason']}; sampler tli stays, rdk has nothing to do")
    write_json(work.out / REPORT, report)


def brief(directory: Path) -> str:
    """Summarise the run in one line: what the prior gains."""
    report = read_json(directory, REPORT)
    if report["prior"] is None:
        return f"no prior: {report['reason']}"
    return f"acceptance {report['acceptance_tli']:.3f} of kept tokens alone, {report['acceptance_rdk']:.3f} with prior"


STAGE = Stage(
    name="affinity",
    run=run,
    inputs=lambda cfg: texts.stage_inputs(cfg, "affinity"),
    config=lambda cfg: texts.key_values(cfg, "affinity"),
    external=lambda cfg: texts.external(cfg, "affinity"),
    check=lambda cfg: texts.check(cfg, "affinity"),
    brief=brief,
)
