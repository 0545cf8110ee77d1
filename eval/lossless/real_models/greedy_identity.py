"""Greedy identity of every sampler on many prompts.

At temperature 0 in fp32 every sampler must emit plain greedy decoding's tokens. Where it does not, both outputs are re-scored in
fp64: a tie only if every chosen token is within 1e-5 of the best logit (eval.run.greedy_check); anything else is an error, exit status 1.
"""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from eval.lossless.real_models import outputs
from eval.lossless.real_models.outputs import Lab, LabOptions, name_of
from eval.run.configurations import Contender
from eval.run.greedy_check import GreedyCheck
from eval.run.records import DIFFERENT, IDENTICAL, TIE


class GreedyPiece(TypedDict, total=False):
    """One batch: the outputs of plain decoding, or a sampler's verdicts and counts."""

    outputs: list[list[int]]
    verdicts: list[str]
    tokens: int
    accepted: int
    verified: int
    target_forwards: int


class GreedyRow(TypedDict):
    """One sampler on all prompts."""

    sampler: str | None
    drafter: str | None
    identical: int
    tie: int
    different: int
    tokens: int
    accepted: int
    verified: int
    target_forwards: int
    different_prompts: list[int]


def check(lab: Lab, console: Console) -> list[GreedyRow]:
    """One row per sampler: how many outputs are identical, ties, different."""
    greedy = GreedyCheck(lab.models.target)
    plain: dict[int, list[int]] = {}

    def make(index: int, contender: Contender, numbers: range) -> GreedyPiece:
        decoded = lab.decode(contender, numbers)
        if contender.sampler is None:
            return {"outputs": [tokens.tolist() for tokens in decoded.tokens]}
        verdicts = [
            greedy.verdict(lab.prompts[number], torch.tensor(plain[number]), tokens)
            for number, tokens in zip(numbers, decoded.tokens, strict=True)
        ]
        return {
            "verdicts": verdicts,
            "tokens": sum(map(len, decoded.tokens)),
            "accepted": int(decoded.accepted.sum()),
            "verified": int(decoded.verified.sum()),
            "target_forwards": int(decoded.target_forwards.sum()),
        }

    rows: list[GreedyRow] = []
    for contender, pieces in lab.results(make, console):
        if contender.sampler is None:
            plain.update(enumerate(tokens for piece in pieces for tokens in piece["outputs"]))
            continue
        verdicts = [verdict for piece in pieces for verdict in piece["verdicts"]]
        found, key = Counter(verdicts), contender.configuration
        rows.append(
            {
                "sampler": key.preset,
                "drafter": key.drafter,
                "identical": found[IDENTICAL],
                "tie": found[TIE],
                "different": found[DIFFERENT],
                "tokens": sum(piece["tokens"] for piece in pieces),
                "accepted": sum(piece["accepted"] for piece in pieces),
                "verified": sum(piece["verified"] for piece in pieces),
                "target_forwards": sum(piece["target_forwards"] for piece in pieces),
                "different_prompts": [number for number, verdict in enumerate(verdicts) if verdict == DIFFERENT],
            }
        )
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
        counts = [str(row["identical"]), str(row["tie"]), str(row["different"])]
        table.add_row(row["sampler"], row["drafter"], *counts, f"{rate:.3f}", f"{each:.2f}")
    console.print(table)
    total = {
        IDENTICAL: sum(row["identical"] for row in rows),
        TIE: sum(row["tie"] for row in rows),
        DIFFERENT: sum(row["different"] for row in rows),
    }
    console.print(f"{total[IDENTICAL]} identical, {total[TIE]} ties, {total[DIFFERENT]} different")
    result = {"schema": 1, "prompts": len(lab.prompts), "max_new_tokens": lab.tokens, "total": total, "rows": rows}
    console.print(f"identity: {outputs.save(lab.folder, 'identity', result).resolve()}")
    return 1 if total[DIFFERENT] else 0
