"""A small report made by the code that makes large ones, from rounds written down here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from drafters.package.recommendation.choices import Choice, Rated, Speedup, Use
from eval.costs.forwards import Costs, Timing
from eval.report import rounds
from eval.report.row import ReportRow, RowRounds
from eval.report.rows import greedy_identity, prices, rows
from eval.report.schema import SCHEMA, ModelId, PromptSet, Report, definitions, to_json
from eval.report.texts.answer import Answer, Answers, AnswerToken, RejectedDraft
from eval.run.records import AUTOREGRESSIVE, PACKAGE, SPECULATIVE, UNPRUNED, Configuration, Record, histogram

COSTS = Costs(
    target={n: Timing(1.0 + 0.1 * (n - 1), 1.0, 1.0, 5) for n in range(1, 7)},
    drafters={UNPRUNED: Timing(0.25, 0.2, 0.3, 5), PACKAGE: Timing(0.2, 0.2, 0.2, 5)},
    context=128,
)
# (drafted, verified, accepted) of every round, by prompt
ROUNDS = {"one": [(5, 3, 2), (5, 5, 5), (5, 1, 0)], "two": [(5, 2, 1), (5, 4, 3)]}


def configurations(temperature: float) -> list[Configuration]:
    return [
        Configuration(None, None, AUTOREGRESSIVE, None, temperature, None),
        Configuration(UNPRUNED, "standard", SPECULATIVE, "static", temperature, 100, "standard"),
        Configuration(PACKAGE, "tli", SPECULATIVE, "static", temperature, 25, "tli"),
        Configuration(PACKAGE, "rrs", SPECULATIVE, "static", temperature, 25, "rrs_batch"),
    ]


def record(
    key: Configuration, prompt: str, kinds: list[tuple[int, int, int]], seconds: float, repeat: int = 0
) -> Record:
    drafted, verified, accepted = (sum(column) for column in zip(*kinds, strict=True))
    greedy = "identical" if key.temperature == 0 and key.sampler else None
    return Record(
        key, prompt, repeat, 7, accepted + len(kinds), drafted, verified, accepted, len(kinds), histogram(kinds), seconds, greedy
    )  # fmt: skip


def records() -> list[Record]:
    made = []
    for temperature in (0.0, 1.0):
        for number, key in enumerate(configurations(temperature)):
            for prompt, kinds in ROUNDS.items():
                own = kinds if key.sampler else [(0, 0, 0)] * 8
                made.append(record(key, prompt, own, 12.0 - number + len(prompt)))
    return made


EXPECTED = {
    "acceptance": 0.612, "acceptance_low": 0.6, "acceptance_high": 0.624, "acceptance_gain": -0.05, "acceptance_gain_low": -0.06,
    "acceptance_gain_high": -0.04, "tokens_per_forward": 2.41, "tokens_per_forward_low": 2.35, "tokens_per_forward_high": 2.47,
    "text_positions": 4000,
}  # fmt: skip


def rated(sampler: str | None, ratio: float, low: float, high: float, predicted: float) -> Rated:
    use = Use() if sampler is None else Use("package", sampler, {}, "static", 5)
    return Rated(use=use, speedup=Speedup(ratio, low, high), predicted=predicted, prompts=24)


def choice(temperature: float, best: Rated, reason: str, following: Rated) -> Choice:
    return Choice(**vars(best), temperature=temperature, reason=reason, next=(following,))


VERDICT = (
    choice(0.0, rated(None, 1.0, 1.0, 1.0, 1.0), "plain decoding: drafts are dear", rated("tli", 1.02, 0.95, 1.1, 1.1)),
    choice(
        1.0, rated("tli", 1.31, 1.12, 1.52, 1.4), "tli: 1.31x plain decoding by the clock", rated("race", 0.9, 0.85, 0.95, 1.1)
    ),
)  # fmt: skip


def annotated(row: ReportRow) -> ReportRow:
    if row.plain:
        return row
    made = replace(
        row, lossless="exact", drafts_at_root=3, measured_at_root=0.75, law_rounds=5, common_laws=40, expected_acceptance=0.61,
        optimal_acceptance=0.73, gap_to_optimum=0.12, nodes=5,
        speedup_by_costs=COSTS.speedup(row.drafter, row.block_efficiency, row.drafted / row.target_forwards),
    )  # fmt: skip
    return made if row.preset == "rrs_batch" else replace(made, **EXPECTED)  # as if nothing followed from laws for it


def token(number: int, text: str, origin: str, **more: object) -> AnswerToken:
    q = {UNPRUNED: 0.25, PACKAGE: 0.0 if more.get("sayable") is False else 0.5, "tail": 0.0001}
    return AnswerToken(id=number, text=text, origin=origin, p=0.5, **{"sayable": True, "q": q, **more})


# Of a tokenizer of bytes: the snowman is three tokens, the byte ff is no part of any character.
ANSWERS = Answers(
    own=True, sampler="tli", stop="static", answers=(
        Answer(prompt="one", asked="def f(x):\n\t", temperature=0.0, rounds=3, tokens=(
            token(1, "return", "accepted"),
            token(2, " <b>&", "correction", rejected=RejectedDraft(id=9, text="</span><script>", p=0.01, q=0.9)),
            token(3, "", "accepted", raw="e2"), token(4, "", "accepted", raw="98"), token(5, "\u2603", "bonus", raw="83"),
            token(6, "\u202eevil", "plain", sayable=False, q={}),
        )),
        Answer(prompt="two", asked="", temperature=1.0, rounds=2, tokens=(
            token(7, "\n\t", "correction", sayable=False, rejected=RejectedDraft(id=8, text="\ufffd", raw="ff")),
            token(10, "</script><script>alert(1)</script>", "correction", rejected=RejectedDraft(id=11, text="\x00")),
        )),
    ),
)  # fmt: skip


def small() -> Report:
    measured = records()
    chains = {key for t in (0.0, 1.0) for key in configurations(t) if key.sampler in ("standard", "tli")}
    return Report(
        schema=SCHEMA, device="cpu", dtype="fp32", pair="pycode", vocabulary=100, kept=25, coverage=0.9, costs=prices(COSTS),
        rows=tuple(map(annotated, rows(measured, "standard"))), drafter_vocabulary=100, threads=2, code="c" * 64,
        models={"target": ModelId("a/target", "f" * 40), "drafter": ModelId("local", None)},
        prompts=PromptSet("pycode", 2, 48, 1), greedy_identity=greedy_identity(measured, exact=True),
        definitions=definitions(ReportRow) | definitions(RowRounds), rounds=rounds.by_round(measured, COSTS, chains),
        texts=ANSWERS, verdict=VERDICT, warnings=("the forwards should have taken 1.30 of the runs. measure again",),
    )  # fmt: skip


def changed_row(report: Report, number: int, **values: object) -> Report:
    """The report with other values in one of its rows."""
    rows = list(report.rows)
    rows[number] = replace(rows[number], **values)
    return replace(report, rows=tuple(rows))


CERTIFICATE = {
    "schema": 1, "code": "c" * 64, "device": "cpu", "dtype": "float64",
    "samplers": {
        "tli": {
            "status": "exact", "cells": 65, "exact_error": 3.3e-16, "n": 88704, "detectable_tv": 0.02,
            "p_values": {"joint": 0.31}, "mutants": 3, "mutants_killed": 3, "failures": [],
        },
        "rrs": {"status": "not_run", "failures": ["exact law off by 1e-3"], "mutants": 2, "mutants_killed": 1},
    },
    "matrix": [
        {"source": "M1", "bug": "q kept early", "test": "exact law", "found": True},
        {"source": "M1", "bug": "q kept early", "test": "chi-square", "found": False},
    ],
}  # fmt: skip
CURVE = {
    "schema": 1,
    "points": [
        {"variant": name, "temperature": 1.0, "kept": kept, "acceptance_rate": rate + 0.01 * kept / 100,
         "acceptance_rate_low": rate, "acceptance_rate_high": rate + 0.1, "speedup": 1.4}
        for name, rate in (("tli", 0.5), ("rdk", 0.6)) for kept in (10, 25, 50, 100)
    ],
    "knee": {"kept": 25, "reason": "half the gain of twice the size"},
}  # fmt: skip
DISCO = {
    "sampler": "tli",
    "calibration": [
        {
            "temperature": 1.0, "output": output, "drafts": 29, "ece": 0.021, "auc": 0.82,
            "roc": [{"false_positive": x, "true_positive": x**0.5} for x in (0.0, 0.25, 1.0)],
            "bins": [
                {"predicted": 0.3, "observed": 0.35, "count": 20}, {"predicted": 0.8, "observed": 0.75, "count": 9},
            ],
        }
        for output in ("accepted", "next")
    ],
    "replayed": [
        {"suite": "held-out traces", "temperature": 1.0, "requests": 4, "rows": [
            {"policy": policy, "speed": speed, "tokens_per_forward": 2.0, "drafted_per_round": 3.0, "wasted": 0.3,
             "gap_closed": None, "early": 0.1}
            for policy, speed in (("static_5", 1.31), ("disco", 1.42), ("oracle", 1.77))
        ]},
    ],
}  # fmt: skip
DSI = {
    "schema": 1, "unit": "ms",
    "runs": [
        {"name": "DSI, 2 servers", "tokens": 9, "lanes": [
            {"label": "drafter", "spans": [{"begin": 0.0, "end": 2.5, "kind": "draft"}]},
            {"label": "server 1", "spans": [{"begin": 2.5, "end": 10.0, "kind": "verify"}]},
            {"label": "server 2", "spans": [{"begin": 5.0, "end": 12.5, "kind": "stale"}]},
        ]},
    ],
}  # fmt: skip


@pytest.fixture
def report() -> Report:
    """Two temperatures, four rows each."""
    return small()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with the report and everything that can stand beside it."""
    for where, content in (
        ("eval/k1/report.json", to_json(small())), ("lossless/k2/certificate.json", CERTIFICATE), ("sweep/k3/curve.json", CURVE),
        ("train-disco/k4/report.json", DISCO), ("dsi/k5/timeline.json", DSI),
    ):  # fmt: skip
        path = tmp_path / "runs" / where
        path.parent.mkdir(parents=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return tmp_path / "runs"
