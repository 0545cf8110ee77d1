"""The tail without training: moments of the text, a tail for every rank and cover, and the one that pays best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor
from transformers import PreTrainedModel

from drafters.models.forms import tail_form
from drafters.models.heads import PrunedHead
from drafters.models.pair import vocabulary_size
from drafters.models.tail import Moments, Spectrum, Tail, factorise
from drafters.probs import Sampling, warp
from eval.stats.bootstrap import interval
from pipeline.fit.teacher_forcing import pieces
from pipeline.fit.text_and_models import Reading, Window
from pipeline.fit.trainer import Plan, train
from pipeline.runner.stage import Advance


def moments(reading: Reading, advance: Advance) -> Moments:
    """Sums over the fit part, for the target's distribution before any warp (T = 1)."""
    width = reading.drafter.get_output_embeddings().weight.shape[1]
    found = Moments(width, reading.vocab.to_drafter.shape[0])
    text = [ids for _, ids in reading.texts["fit"]]
    for piece in pieces(reading.target, reading.drafter, text, Sampling()):
        found.add(piece.hidden, piece.p, 1 - piece.p[:, reading.kept].sum(-1).clamp(max=1))
        advance(1)
    return found


def likeliest(ids: Tensor, mass: Tensor, share: float) -> Tensor:
    """The share of pruned `ids` int64 (O,) that the target says most: ascending, int64 (ceil(share O),). Equal ones: lower ids first.

    Args:
        mass: (V,) sum of the target's distributions over some text, by id. share: in (0, 1].
    """
    order = mass[ids].argsort(descending=True, stable=True)
    return ids[order[: ceil(share * len(ids))]].sort().values


def named(rank: int, share: float) -> str:
    """What a training-free tail is called in tables: tail_free_12, or tail_free_24_top40 of the likeliest 40 %."""
    return f"tail_free_{rank}" + ("" if share == 1 else f"_top{round(100 * share)}")


def candidates(
    reading: Reading, head: torch.nn.Linear, sums: Moments, ranks: Sequence[int], covers: Sequence[float]
) -> tuple[list[Tail], Spectrum]:
    """A tail of every rank for every share of the pruned rows of the unpruned drafter's head; singular values of the widest's."""
    found = []
    for share in sorted(covers, reverse=True):
        ids = likeliest(reading.pruned, sums.mass, share)
        weight = head.weight.detach()[ids].cpu()
        bias = None if head.bias is None else head.bias.detach()[ids].cpu()
        found += [factorise(weight, bias, ids, sums, rank) for rank in sorted(ranks)]
    return [tail for tail, _ in found], found[0][1]


@torch.inference_mode()
def acceptances(
    reading: Reading, drafters: Mapping[str, PreTrainedModel], text: Sequence[Window], advance: Advance
) -> dict[str, Tensor]:
    """Acceptance sum_x min(p, q) of drafters, by document: q of a short head (TLI), or one over the target's ids.

    Returns:
        name -> fp64 (documents, 2): tokens, and the sum of acceptances over them.
    """
    found: dict[str, dict[int, Tensor]] = {name: {} for name in drafters}
    for document, ids in text:
        batch = ids.unsqueeze(0).to(reading.target.device)
        p = warp(reading.target(input_ids=batch, use_cache=False).logits[0], reading.sampling)
        for name, drafter in drafters.items():
            q = warp(drafter(input_ids=batch, use_cache=False).logits[0], reading.sampling)
            one = torch.minimum(_columns(p, drafter), q[:, : p.shape[-1]]).sum(dtype=torch.float64)
            row = torch.tensor([float(len(ids)), float(one)], dtype=torch.float64)
            found[name][document] = found[name].get(document, torch.zeros(2, dtype=torch.float64)) + row
        advance(1)
    return {name: torch.stack(list(rows.values())) for name, rows in found.items()}


def _columns(p: Tensor, drafter: PreTrainedModel) -> Tensor:
    """The target's distribution (n, V) on what the drafter's columns stand for."""
    head: Any = drafter.get_output_embeddings()
    kept = head.kept if isinstance(head, PrunedHead) and not head.scatter else slice(vocabulary_size(drafter.config))
    return p[:, kept]


def mean(rows: Tensor) -> float:
    """Acceptance per token of `acceptances`' rows."""
    tokens, total = rows.sum(0).tolist()
    return total / tokens


def trained_tail(
    drafter: PreTrainedModel,
    free: Tail,
    target: PreTrainedModel,
    windows: list[Tensor],
    plan: Plan,
    folder: Path,
    advance: Advance,
) -> Tail:
    """The tail of a short drafter after training from the training-free one; what a killed run had done is kept in ``folder``."""
    student = tail_form(drafter, free)
    head: Any = student.get_output_embeddings()
    trained = {"down": head.down, "up": head.up, "bias": head.tail_bias}
    train(student, trained, target, windows, plan, folder, advance)
    return Tail(free.ids, *(part.detach().float().cpu().clone().contiguous() for part in trained.values()))


def with_interval(rows: Tensor) -> dict[str, float | None]:
    """Acceptance per token of `acceptances`' rows with its 95 % interval, documents resampled."""
    low, high = interval(lambda tokens, accepted: accepted / tokens, *rows.numpy().T)
    return {"mean": mean(rows), "low": low, "high": high}


def tokens_per_weight(acceptance: float, lookahead: int, drafter: int, target: int) -> float:
    """Tokens per weight read, of chains of `lookahead` drafts: decoding one request is bound by memory.

    (1 - a^(G+1)) / (1 - a) tokens per round (Leviathan et al. 2023, equation 1), which reads the drafter G times and the
    target once.
    """
    tokens = lookahead + 1.0 if acceptance >= 1 else (1 - acceptance ** (lookahead + 1)) / (1 - acceptance)
    return tokens / (lookahead * drafter + target)


def weights_read(model: PreTrainedModel) -> int:
    """Weights that one token's forward reads: all but the input embedding, of which it reads one row."""
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    every = {id(part): part.numel() for part in model.parameters()}
    every.pop(id(embedding), None)
    return sum(every.values()) + (embedding.numel() if head is embedding else 0)


class Rated(TypedDict):
    """A tail and what it is worth."""

    rank: int
    tokens: int
    head_share: float
    acceptance: float
    tokens_per_weight: float


def choose(
    reading: Reading, tails: Sequence[Tail], limit: float, lookahead: int, advance: Advance
) -> tuple[Tail, list[Rated]]:
    """The tail with the most tokens per weight read on the calibrate part, among those within the head's share `limit`.

    Returns:
        It, and one row per candidate.
    """
    forms = {str(number): tail_form(reading.drafter, tail) for number, tail in enumerate(tails)}
    found = acceptances(reading, forms, reading.texts["calibrate"], advance)
    target, base = weights_read(reading.target), weights_read(reading.drafter)
    rows = []
    for number, tail in enumerate(tails):
        accepted = mean(found[str(number)])
        worth = tokens_per_weight(accepted, lookahead, base + tail.numbers, target)
        row: Rated = {
            "rank": tail.rank, "tokens": len(tail.ids), "head_share": head_share(reading, tail), "acceptance": accepted,
            "tokens_per_weight": worth,
        }  # fmt: skip
        rows.append(row)
    smallest = min(range(len(rows)), key=lambda number: rows[number]["head_share"])
    allowed = [number for number, row in enumerate(rows) if row["head_share"] <= limit] or [smallest]
    return tails[max(allowed, key=lambda number: rows[number]["tokens_per_weight"])], rows


def head_share(reading: Reading, tail: Tail | None) -> float:
    """Weights that the short head, and its tail, read, as a share of the whole head's."""
    head = reading.drafter.get_output_embeddings().weight
    rows = reading.checkpoint.vocabulary
    return (head.numel() + (0 if tail is None else tail.numbers)) / (rows * head.shape[1])
