"""Do sampled outputs have the target's distribution? Their negative log-likelihood under the target says.

Per token, -log p(x | prefix) minus the entropy of p(. | prefix) has mean zero for exact samples, whatever the prefix:
summed over an output it is a martingale with known variance, and `z_entropy` its standard score over all outputs.
`z_plain` compares the mean NLL with plain sampling's, paired by prompt. A sampler that prefers likely tokens, as a
lossy one does, moves both.
"""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from eval.lossless.real_models import outputs
from eval.lossless.real_models.outputs import Lab, LabOptions
from eval.run.configurations import Contender

LIMIT = 3.5  # standard errors; by chance beyond it in 1 of 2,000 scores


class LikelihoodPiece(TypedDict):
    """One batch: the scores of each output, as `score` gives them, and its number of tokens."""

    scores: list[tuple[float, float, float]]
    tokens: list[int]


class LikelihoodRow(TypedDict):
    """One sampler on all prompts: nats per token, and standard scores against the entropy and against plain sampling."""

    sampler: str | None
    drafter: str | None
    tokens: int
    nll: float
    entropy: float
    z_entropy: float
    z_plain: float | None


@torch.inference_mode()
def score(target: PreTrainedModel, prompt: Tensor, tokens: Tensor) -> tuple[float, float, float]:
    """Sums over an output of -log p(x), of the entropy of p, and of the variance of log p; T = 1, one uncached forward.

    `prompt` and `tokens` int64 (n,), (m,), m >= 1.
    """
    whole = torch.cat([prompt, tokens]).to(target.device)
    logits = target(input_ids=whole[:-1].unsqueeze(0), use_cache=False, logits_to_keep=len(tokens)).logits[0]  # (m, V)
    logs = logits.double().log_softmax(-1)
    p = logs.exp()
    entropy = -torch.special.xlogy(p, p).sum(-1)
    second = torch.where(p > 0, p * logs**2, 0.0).sum(-1)
    nll = -logs.gather(-1, tokens.to(logs.device).unsqueeze(-1)).sum()
    return float(nll), float(entropy.sum()), float((second - entropy**2).clamp(min=0.0).sum())


def check(lab: Lab, console: Console) -> list[LikelihoodRow]:
    """One row per sampler, plain sampling first. All runs have coins of their own."""

    def make(index: int, contender: Contender, numbers: range) -> LikelihoodPiece:
        decoded = lab.decode(contender, numbers, stream=index)
        scores = [
            score(lab.models.target, lab.prompts[number], tokens)
            for number, tokens in zip(numbers, decoded.tokens, strict=True)
        ]
        return {"scores": scores, "tokens": [len(tokens) for tokens in decoded.tokens]}

    rows: list[LikelihoodRow] = []
    plain: np.ndarray | None = None
    for contender, batches in lab.results(make, console):
        scores = np.array([item for batch in batches for item in batch["scores"]])  # (P, 3)
        counts = np.array([count for batch in batches for count in batch["tokens"]])  # (P,)
        means = scores[:, 0] / counts
        key, (nll, entropy, z) = contender.configuration, summary(scores, counts)
        rows.append(
            {
                "sampler": key.preset,
                "drafter": key.drafter,
                "tokens": int(counts.sum()),
                "nll": nll,
                "entropy": entropy,
                "z_entropy": z,
                "z_plain": None if plain is None else paired(means - plain),
            }
        )
        plain = means if plain is None else plain
        console.print(f"{outputs.name_of(contender):24} {_told(rows[-1])}")
    return rows


def summary(scores: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """NLL and entropy per token, and their standard score, of P outputs: scores (P, 3), as `score` gives them, and tokens (P,)."""
    nll, entropy, variance = scores.sum(0).tolist()
    total = int(counts.sum())
    return nll / total, entropy / total, (nll - entropy) / math.sqrt(variance) if variance > 0 else 0.0


def paired(differences: np.ndarray) -> float:
    """Standard score of the mean of paired differences (P,), P >= 2; 0 where all are zero."""
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return float(differences.mean()) / error if error > 0 else 0.0


def main(options: LabOptions) -> int:
    """Run the check; 0 where every score is within LIMIT."""
    if options.prompts < 2:
        raise outputs.OutputsError(f"prompts={options.prompts}: a standard error needs at least 2")
    console = Console(highlight=False, soft_wrap=True)
    lab = outputs.open_lab(options, "nll", 1.0)
    console.print(
        f"{len(lab.contenders) - 1} samplers x {len(lab.prompts)} prompts x {lab.tokens} tokens, T = 1, B = {lab.batch}"
    )
    rows = check(lab, console)
    table = Table(
        "sampler", "drafter", "tokens", "NLL / token", "entropy / token", "z (entropy)", "z (plain)", box=SIMPLE_HEAD
    )
    table.columns[0].no_wrap = True
    for row in rows:
        scores = (f"{row['z_entropy']:+.2f}", "-" if row["z_plain"] is None else f"{row['z_plain']:+.2f}")
        name = "(plain)" if row["sampler"] is None else row["sampler"]
        table.add_row(name, row["drafter"], f"{row['tokens']:,}", f"{row['nll']:.4f}", f"{row['entropy']:.4f}", *scores)
    console.print(table)
    found = [abs(z) for row in rows for z in (row["z_entropy"], row["z_plain"]) if z is not None]
    console.print(f"largest |z| of {len(found)}: {max(found):.2f} (limit {LIMIT})")
    result = {"schema": 1, "prompts": len(lab.prompts), "max_new_tokens": lab.tokens, "limit": LIMIT, "rows": rows}
    console.print(f"nll: {outputs.save(lab.folder, 'nll', result).resolve()}")
    return 1 if max(found) >= LIMIT else 0


def _told(row: LikelihoodRow) -> str:
    beside = "" if row["z_plain"] is None else f", z against plain {row['z_plain']:+.2f}"
    return f"NLL {row['nll']:.4f} per token, entropy {row['entropy']:.4f}, z {row['z_entropy']:+.2f}{beside}"
