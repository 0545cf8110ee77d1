"""Holds the packaged drafter to what earlier stages measured: the same p and q on a text give the same acceptance.

A package whose prior, tail or head is not the one that was fitted would show here, whatever its samplers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from drafters.engine.drafting.chain import drafting_law
from drafters.io.safe_load import read_json
from drafters.probs import Sampling
from drafters.samplers.draft import Sampler
from eval.report.schema import HeldOutFigure
from eval.run.configurations import Drafter, applicable
from eval.run.records import PACKAGE, TAILED, UNPRUNED
from eval.run.sampler_files import Preset
from pipeline.evaluate.setup import Bench
from pipeline.fit.teacher_forcing import pieces
from pipeline.fit.text_and_models import read_test

DIGITS = 3  # what is printed; distributions of one text computed twice differ in the seventh at most
OFF = 0.5 * 10**-DIGITS


# distribution -> (drafter's name, sampler)
LAWS = {"unpruned": (UNPRUNED, "standard"), "tli": (PACKAGE, "tli"), "rdk": (PACKAGE, "rdk"), "tail": (TAILED, "tail")}


def figures(served: Sampling, bench: Bench, inputs: Mapping[str, Path]) -> list[HeldOutFigure]:
    """All figures that the stages affinity and tail gave for distributions that the package still has.

    ``served``: the sampling that it was prepared for.
    """
    found = []
    for stage, stated in (("affinity", _of_affinity), ("tail", _of_tail)):
        if stage not in inputs or not (windows := read_test(inputs[stage])):
            continue
        said = stated(inputs[stage])
        acceptances = _acceptances(bench, windows, served, tuple(said))
        found += [HeldOutFigure(stage, law, said[law], value) for law, value in acceptances.items()]
    return found


def agrees(figure: HeldOutFigure) -> bool:
    """Whether both figures are equal to the printed digits."""
    return abs(figure.stated - figure.found) <= OFF


def _of_affinity(folder: Path) -> dict[str, float]:
    report = read_json(folder, "report.json")
    return {"tli": report["acceptance_tli"], "rdk": report["acceptance_rdk"]}


def _of_tail(folder: Path) -> dict[str, float]:
    report = read_json(folder, "tail.json")
    measured = report["acceptance"]
    chosen = "tail_trained" if report["tail"] == "trained" else "tail_free"
    return {"unpruned": measured["full"]["mean"], "tli": measured["tli"]["mean"], "tail": measured[chosen]["mean"]}


def _acceptances(bench: Bench, windows: list[Tensor], served: Sampling, laws: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for law in laws:
        name, sampler = LAWS[law]
        drafter = next((item for item in bench.drafters if item.name == name), None)
        built = None if drafter is None else applicable(Preset(sampler, sampler), drafter)
        if drafter is not None and built is not None:
            found[law] = _acceptance(bench.models.target, drafter, built, windows, served)
    return found


def _acceptance(
    target: PreTrainedModel, drafter: Drafter, sampler: Sampler, windows: list[Tensor], served: Sampling
) -> float:
    """Mean over the windows' tokens of sum min(p, q)."""
    total = 0.0
    for piece in pieces(target, drafter.pair.drafter, windows, served):  # type: ignore[attr-defined]
        q = sampler.token_proposal.lift(drafting_law(piece.logits, sampler, served))
        total += float(torch.minimum(piece.p.double(), q.double()).sum())
    return total / sum(map(len, windows))


def sentences(found: list[HeldOutFigure]) -> tuple[list[str], list[str]]:
    """(what agrees, what does not), in words."""
    if not found:
        return [], []
    agreed = {item.law: f"{item.law} {item.found:.{DIGITS}f}" for item in found if agrees(item)}
    said = (
        [f"held-out text of the stages, acceptance as they measured it: {', '.join(agreed.values())}"] if agreed else []
    )
    return said, [
        f"stage {item.stage} measured {item.stated:.{DIGITS}f} for {item.law}, the package gives {item.found:.{DIGITS}f} on the "
        f"same text: it does not hold what that stage made; run make package again"
        for item in found
        if not agrees(item)
    ]
