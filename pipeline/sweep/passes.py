"""The passes of the sweep over text: fit, calibrate, test; one forward of both models serves all sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from drafters.probs import Sampling, warp
from eval.acceptance.vocabulary_curve import Sums, oracle, overlap
from pipeline.fit.remembered import Remembered
from pipeline.runner.stage import Advance
from pipeline.sweep.size import Size

Chosen = dict[str, str]  # "rdk", "rdk_exact" -> candidate of Size.laws


class Passage(NamedTuple):
    """A window of text, and from where on it is judged."""

    document: int
    ids: Tensor  # int64 (n,)
    begin: int = 0  # the first position whose next token counts


@dataclass(frozen=True)
class Both:
    """The target and the unpruned drafter; both read a passage once, whatever passes follow."""

    target: Remembered
    drafter: Remembered
    stride: int  # every so many positions are judged: neighbours tell nearly the same

    def places(self, passage: Passage) -> Tensor:
        """The positions of a passage that are judged, int64 (m,)."""
        return torch.arange(passage.begin, len(passage.ids), self.stride)

    def read(self, text: list[Passage], sampling: Sampling) -> Iterator[tuple[Passage, Tensor, Tensor, Tensor]]:
        """(passage, p (m, V), drafter logits (m, V), hidden (m, H)) of each passage, at its m places."""
        for passage in text:
            places = self.places(passage)
            with torch.inference_mode():
                p = warp(self.target.logits(passage.ids, places).float(), sampling)
                logits = self.drafter.logits(passage.ids, places).float()
                hidden = self.drafter.hidden(passage.ids)[places.to(self.drafter.device)].float()
            yield passage, p, _as_wide(logits, p.shape[-1]), hidden


def _as_wide(logits: Tensor, vocabulary: int) -> Tensor:
    """Logits (n, D) of a head padded to another length as (n, V)."""
    return torch.nn.functional.pad(logits, (0, vocabulary - logits.shape[-1]), value=-torch.inf)


def fit(both: Both, sizes: list[Size], text: list[Passage], kernel_contexts: int, advance: Advance) -> Tensor:
    """Add the fit part to every size; returns p (K, V) of `kernel_contexts` contexts at most, for the paper's covariance."""
    laws, stride = [], max(1, sum(len(both.places(passage)) for passage in text) // max(1, kernel_contexts))
    for passage, p, logits, hidden in both.read(text, Sampling()):
        for size in sizes:
            size.add(passage.ids, p, logits, hidden, Sampling())
        laws.append(p[::stride].clone())
        advance(1)
    return torch.cat(laws)[:kernel_contexts]


@torch.inference_mode()
def refine(both: Both, sizes: list[Size], text: list[Passage], sampling: Sampling, advance: Advance) -> None:
    """Fit shares per donor of every size, in a second pass over the fit part."""
    fits = [size.refine(len(text)) for size in sizes]
    for _, p, logits, _ in both.read(text, sampling):
        for size, one in zip(sizes, fits, strict=True):
            if one is not None:
                one.step(p, warp(logits[:, size.kept], sampling))
        advance(1)
    for size, one in zip(sizes, fits, strict=True):
        if one is not None:
            size.priors["mean_per_donor"] = one.result()


@torch.inference_mode()
def calibrate(both: Both, sizes: list[Size], text: list[Passage], sampling: Sampling, advance: Advance) -> list[Chosen]:
    """For each size the candidate of the best mean acceptance: of all priors and shares, share 0 (TLI) included, and of kernels."""
    sums: list[dict[str, float]] = [defaultdict(float) for _ in sizes]
    for _, p, logits, _ in both.read(text, sampling):
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
    both: Both, sizes: list[Size], chosen: list[Chosen], text: list[Passage], sampling: Sampling, advance: Advance
) -> list[dict[str, Sums]]:
    """Acceptance of every method, by document, of each size."""
    forms = [{} if size.whole else size.forms(both.drafter.model) for size in sizes]
    readers = {id(size.healed): Remembered(size.healed) for size in sizes if size.healed is not None}
    sums: list[dict[str, Sums]] = [defaultdict(Sums) for _ in sizes]
    for passage, p, logits, _ in both.read(text, sampling):
        document, places = passage.document, both.places(passage)
        full = overlap(p, warp(logits, sampling))
        for size, kinds, tails, found in zip(sizes, chosen, forms, sums, strict=True):
            found["full"].add(document, full)
            if size.whole:
                continue
            for method, accepted in _judged(size, kinds, p, logits, sampling):
                found[method].add(document, accepted)
            for name, model in tails.items():
                reader = readers.get(id(model), both.drafter)  # the one whose network it is
                own = reader.logits(passage.ids, places, model).float()
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
