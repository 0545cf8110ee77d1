"""Coupled samplers on real weights: is sampled output plain race decoding's, token for token?

In exact arithmetic it is, whatever was drafted (the gate proves it on fp64 models). In fp32 a forward of one token and one of six
round differently, so two tokens whose scores log p - log E nearly tie can change places. Each output that differs is re-scored in
fp64 where it parts: more than GAP between the best score and a chosen one is an error, exit status 1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import torch
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedModel

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.rng.coins import KeyedCoins
from drafters.stop.policies.static import Static
from eval.lossless.real_models import outputs
from eval.lossless.real_models.outputs import Lab, LabOptions, name_of
from eval.run.configurations import Contender

GAP = 1e-4  # fp32 logits of this size are off by about 1e-5; a token chosen by mistake is off by about 1


class RacePiece(TypedDict, total=False):
    """One batch: outputs, and the gaps of those that part from plain race decoding's."""

    gaps: list[float]
    outputs: int


class RaceRow(TypedDict):
    """One coupled sampler on all prompts."""

    sampler: str | None
    drafter: str | None
    outputs: int
    parted: int
    largest_gap: float


def parts_at(one: Tensor, other: Tensor) -> int | None:
    """First index where int64 (n,) and (m,) differ; None where they are equal."""
    both = min(len(one), len(other))
    different = (one[:both] != other[:both]).nonzero()
    if len(different):
        return int(different[0])
    return None if len(one) == len(other) else both


@torch.inference_mode()
def gap(precise: PreTrainedModel, coins: KeyedCoins, prefix: Tensor, tokens: Sequence[int]) -> float:
    """Largest distance of a token's score log p - log E from the best one after `prefix` int64 (n,); T = 1, coins of one request."""
    logits = precise(input_ids=prefix.unsqueeze(0), use_cache=False).logits[0, -1].double()  # (V,)
    noise = coins.race(torch.tensor([len(prefix)]), torch.arange(logits.shape[0]))[0].double()
    scores = logits.log_softmax(-1) - noise.log()
    return float(scores.max() - scores[list(tokens)].min())


def check(lab: Lab, console: Console) -> list[RaceRow]:
    """One row per coupled sampler: outputs, how many part from plain race decoding's, and the largest gap where they do."""
    precise: PreTrainedModel | None = None
    plain: dict[int, Tensor] = {}

    def make(index: int, contender: Contender, numbers: range) -> RacePiece:
        nonlocal precise
        if contender.sampler is None or contender.drafter is None:
            return {}
        for number in numbers:
            if number not in plain:  # no drafts: the target alone, on the noise of the same request
                coins = KeyedCoins(lab.seed, torch.tensor([number]))
                prompt, limits = [lab.prompts[number]], Limits(lab.tokens)
                decoded = speculative(contender.drafter.pair, contender.sampler, Static(0), prompt, coins, limits)
                plain[number] = decoded.tokens[0].cpu()
        gaps = []
        for number, tokens in zip(numbers, lab.decode(contender, numbers).tokens, strict=True):
            expected, got = plain[number], tokens.cpu()
            at = parts_at(expected, got)
            if at is None:
                continue
            if at >= min(len(expected), len(got)):
                gaps.append(float("inf"))  # one ended early though both said the same
                continue
            precise = precise or copy.deepcopy(lab.models.target).double()
            prefix = torch.cat([lab.prompts[number], expected[:at]])
            one = KeyedCoins(lab.seed, torch.tensor([number]))
            gaps.append(gap(precise, one, prefix, [int(expected[at]), int(got[at])]))
        return {"gaps": [min(value, 1e9) for value in gaps], "outputs": len(numbers)}

    rows: list[RaceRow] = []
    for contender, batches in lab.results(make, console):
        if contender.sampler is None:
            continue
        gaps = [value for batch in batches for value in batch["gaps"]]
        count = sum(batch["outputs"] for batch in batches)
        key, largest = contender.configuration, max(gaps, default=0.0)
        rows.append(
            {
                "sampler": key.preset,
                "drafter": key.drafter,
                "outputs": count,
                "parted": len(gaps),
                "largest_gap": largest,
            }
        )
        told = f"{len(gaps)} of {count} part from plain race decoding"
        console.print(f"{name_of(contender):24} {told}, largest gap {largest:.1e}")
    return rows


def main(options: LabOptions) -> int:
    """Run the check; 0 where every difference is a near tie."""
    if options.device != "cpu":
        raise outputs.OutputsError(f"device={options.device}: expected cpu, where the fp64 re-scoring runs")
    console = Console(highlight=False, soft_wrap=True)
    lab = outputs.open_lab(options, "race_identity", 1.0)
    coupled = [item for item in lab.contenders if item.sampler is not None and item.sampler.verifier.coupled]
    if not coupled:
        raise outputs.OutputsError(
            f"samplers={','.join(options.samplers)}: expected a coupled sampler, as race or race_tree"
        )
    rows = check(replace(lab, contenders=coupled), console)
    worst = max(row["largest_gap"] for row in rows)
    parted, count = sum(row["parted"] for row in rows), sum(row["outputs"] for row in rows)
    console.print(f"{parted} of {count} outputs part from plain race decoding, largest gap {worst:.1e} (limit {GAP})")
    result = {"schema": 1, "prompts": len(lab.prompts), "max_new_tokens": lab.tokens, "limit": GAP, "rows": rows}
    console.print(f"race identity: {outputs.save(lab.folder, 'race_identity', result).resolve()}")
    return 1 if worst >= GAP else 0
