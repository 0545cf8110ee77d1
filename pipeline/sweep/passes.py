"""The passes of the sweep over text: fit, calibrate, test; one forward of both models serves all sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from drafters.probs import Sampling, warp
from eval.acceptance.vocabulary_curve import Sums, oracle, overlap
from pipeline.fit.teacher_forcing import pieces
from pipeline.fit.text_and_models import Window
from pipeline.runner.stage import Advance
from pipeline.sweep.size import Size

Chosen = dict[str, str]  # "rdk", "rdk_exact" -> candidate of Size.laws


@dataclass(frozen=True)
class Both:
    """The target and the unpruned drafter."""

    target: PreTrainedModel
    drafter: PreTrainedModel
    stride: int  # every so many positions are judged: neighbours tell nearly the same

    def read(self, text: list[Window], sampling: Sampling) -> Iterator[tuple[int, Tensor, Tensor, Tensor, Tensor]]:
        """(document, ids (n,), p (m, V), drafter logits (m, V), hidden (m, H)) of each window, m of its n positions."""
        found = pieces(self.target, self.drafter, (ids for _, ids in text), sampling)
        for (document, ids), piece in zip(text, found, strict=True):
            step = self.stride
            logits = _as_wide(piece.logits, piece.p.shape[-1])
            yield document, ids, piece.p[::step], logits[::step], piece.hidden[::step]


def _as_wide(logits: Tensor, vocabulary: int) -> Tensor:
    """Logits (n, D) of a head padded to another length as (n, V)."""
    return torch.nn.functional.pad(logits, (0, vocabulary - logits.shape[-1]), value=-torch.inf)


def fit(both: Both, sizes: list[Size], text: list[Window], kernel_contexts: int, advance: Advance) -> Tensor:
    """Add the fit part to every size; returns p (K, V) of `kernel_contexts` contexts at most, for the paper's covariance."""
    laws, stride = [], max(1, sum(len(ids) for _, ids in text) // both.stride // max(1, kernel_contexts))
    for _, ids, p, logits, hidden in both.read(text, Sampling()):
        for size in sizes:
            size.add(ids, p, logits, hidden, Sampling())
        laws.append(p[::stride].clone())
        advance(1)
    return torch.cat(laws)[:kernel_contexts]


@torch.inference_mode()
def refine(both: Both, sizes: list[Size], text: list[Window], sampling: Sampling, advance: Advance) -> None:
    """Fit shares per donor of every size, in a second pass over the fit part."""
    fits = [size.refine(len(text)) for size in sizes]
    for _, _, p, logits, _ in both.read(text, sampling):
        for size, one in zip(sizes, fits, strict=True):
            if one is not None:
                one.step(p, warp(logits[:, size.kept], sampling))
        advance(1)
    for size, one in zip(sizes, fits, strict=True):
        if one is not None:
            size.priors["mean_per_donor"] = one.result()


@torch.inference_mode()
def calibrate(both: Both, sizes: list[Size], text: list[Window], sampling: Sampling, advance: Advance) -> list[Chosen]:
    """For each size the candidate of the best mean acceptance: of all priors and shares, share 0 (TLI) included, and of kernels."""
    sums: list[dict[str, float]] = [defaultdict(float) for _ in sizes]
    for _, _, p, logits, _ in both.read(text, sampling):
        for size, found in zip(sizes, sums, strict=True):
            for name, law in () if size.whole else size.laws(logits, sampling):
                found[name] += float(overlap(p, law).sum())
        advance(1)
    return [_best(found) for found in sums]


def _best(found: dict[str, float]) -> Chosen:
    kinds: dict[str, dict[str, float]] = {"rdk": {}, "rdk_exact": {}}
    for name, value in found.items():
        kind = name.partition("/")[0]
        kinds["rdk" if kind == "tli" else kind][name] = value
    return {kind: max(values, key=values.__getitem__) for kind, values in kinds.items() if values}


@torch.inference_mode()
def test(
    both: Both, sizes: list[Size], chosen: list[Chosen], text: list[Window], sampling: Sampling, advance: Advance
) -> list[dict[str, Sums]]:
    """Acceptance of every method, by document, of each size."""
    forms = [{} if size.whole else size.forms(both.drafter) for size in sizes]
    sums: list[dict[str, Sums]] = [defaultdict(Sums) for _ in sizes]
    for document, ids, p, logits, _ in both.read(text, sampling):
        full = overlap(p, warp(logits, sampling))
        for size, kinds, tails, found in zip(sizes, chosen, forms, sums, strict=True):
            found["full"].add(document, full)
            if size.whole:
                continue
            for method, accepted in _judged(size, kinds, p, logits, sampling):
                found[method].add(document, accepted)
            for name, model in tails.items():
                batch = ids.unsqueeze(0).to(model.device)
                own = model(input_ids=batch, use_cache=False).logits[0, :: both.stride].float()
                found[name].add(document, overlap(p, warp(_as_wide(own, p.shape[-1]), sampling)))
        advance(1)
    return sums


def _judged(size: Size, kinds: Chosen, p: Tensor, logits: Tensor, sampling: Sampling) -> Iterator[tuple[str, Tensor]]:
    yield "oracle", oracle(p, warp(logits[:, size.kept], sampling), size.kept)
    wanted: dict[str, list[str]] = defaultdict(list)
    for method, name in {"tli": "tli", **kinds}.items():
        wanted[name].append(method)
    for name, law in size.laws(logits, sampling, tuple(wanted)):
        for method in wanted[name]:
            yield method, overlap(p, law)
