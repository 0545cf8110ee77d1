"""Greedy identity of every sampler on many prompts.

At temperature 0 in fp32 every sampler must emit plain greedy decoding's tokens. Where it does not, both outputs are re-scored in
fp64: a tie only if every chosen token is within 1e-5 of the best logit (eval.run.greedy_check); anything else is an error, exit status 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from eval.lossless.real_models import outputs
from eval.lossless.real_models.outputs import Batch, Lab, LabOptions, name_of
from eval.run.configurations import Contender
from eval.run.greedy_check import GreedyCheck
from eval.run.records import DIFFERENT, IDENTICAL, TIE


def check(lab: Lab, console: Console) -> list[dict[str, Any]]:
    """One row per sampler: how many outputs are identical, ties, different."""
    greedy = GreedyCheck(lab.models.target)
    plain: dict[int, list[int]] = {}

    def make(index: int, contender: Contender, numbers: range) -> Batch:
        decoded = lab.decode(contender, numbers)
        if contender.sampler is None:
            return {"tokens": [tokens.tolist() for tokens in decoded.tokens]}
        verdicts = [
            greedy.verdict(lab.prompts[number], torch.tensor(plain[number]), tokens)
            for number, tokens in zip(numbers, decoded.tokens, strict=True)
        ]
        counts = {name: int(getattr(decoded, name).sum()) for name in ("accepted", "verified", "target_forwards")}
        return {"verdicts": verdicts, "tokens": sum(map(len, decoded.tokens)), **counts}

    rows = []
    for contender, batches in lab.results(make, console):
        if contender.sampler is None:
            every = [tokens for batch in batches for tokens in batch["tokens"]]
            plain.update(enumerate(every))
            continue
        found = Counter(verdict for batch in batches for verdict in batch["verdicts"])
        totals = {
            name: sum(batch[name] for batch in batches)
            for name in ("tokens", "accepted", "verified", "target_forwards")
        }
        different = [number for number, verdict in enumerate(_verdicts(batches)) if verdict == DIFFERENT]
        key = contender.configuration
        row = {
            "sampler": key.preset,
            "drafter": key.drafter,
            **{name: found[name] for name in (IDENTICAL, TIE, DIFFERENT)},
        }
        rows.append({**row, **totals, "different_prompts": different})
        console.print(
            f"{name_of(contender):24} {found[IDENTICAL]} identical, {found[TIE]} ties, {found[DIFFERENT]} different"
        )
    return rows


def main(options: LabOptions) -> int:
    """Run the check; 0 where every output is plain greedy decoding's or a tie."""
    console = Console(highlight=False, soft_wrap=True)
    lab = outputs.open_lab(options, "identity", 0.0)
    console.print(
        f"{len(lab.contenders) - 1} samplers x {len(lab.prompts)} prompts x {lab.tokens} tokens, fp32, B = {lab.batch}"
    )
    rows = check(lab, console)
    table = Table(
        "sampler", "drafter", "identical", "ties", "different", "acceptance", "tokens / forward", box=SIMPLE_HEAD
    )
    table.columns[0].no_wrap = True
    for row in rows:
        rate = row["accepted"] / row["verified"] if row["verified"] else 0.0
        each = row["tokens"] / row["target_forwards"] if row["target_forwards"] else 0.0
        counts = [str(row[name]) for name in (IDENTICAL, TIE, DIFFERENT)]
        table.add_row(row["sampler"], row["drafter"], *counts, f"{rate:.3f}", f"{each:.2f}")
    console.print(table)
    total = {name: sum(row[name] for row in rows) for name in (IDENTICAL, TIE, DIFFERENT)}
    console.print(f"{total[IDENTICAL]} identical, {total[TIE]} ties, {total[DIFFERENT]} different")
    result = {"schema": 1, "prompts": len(lab.prompts), "max_new_tokens": lab.tokens, "total": total, "rows": rows}
    console.print(f"identity: {outputs.save(lab.folder, 'identity', result).resolve()}")
    return 1 if total[DIFFERENT] else 0


def _verdicts(batches: Sequence[Batch]) -> list[str]:
    return [verdict for batch in batches for verdict in batch["verdicts"]]
