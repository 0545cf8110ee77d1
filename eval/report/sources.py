"""The files a page is made of: report.json, and what other commands found out, each with the fields that are read of it.

Further measurements are found below `runs` by their names; none is needed. Their formats:
    sweep/*/curve.json   acceptance by kept vocabulary: CURVE
    train-disco/*/report.json   the stop classifier and all policies on held-out prompts: DISCO
    dsi/**/timeline.json   who computed what when, with and without speculation parallelism: DSI
    lossless/*/certificate.json   the gate's certificate
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.report.shapes import ANYTHING, Each, Maybe, ReportError, Shape, read
from eval.report.write import SCHEMA

EVAL, CERTIFY = 'make eval ARGS="..."', "make lossless"
CURVE_COMMAND, DISCO_COMMAND, DSI_COMMAND = "make sweep", "make train-disco", "make dsi-sim"

_RATE: dict[str, Shape] = {
    "acceptance_rate": Maybe(float), "acceptance_rate_low": Maybe(float), "acceptance_rate_high": Maybe(float),
}  # fmt: skip
_INTERVAL: dict[str, Shape] = {
    f"{name}{end}": Maybe(float)
    for name in ("acceptance", "acceptance_gain", "tokens_per_forward") for end in ("", "_low", "_high")
}  # fmt: skip
_ROW: dict[str, Shape] = _RATE | _INTERVAL | {
    "text_positions": Maybe(int),
    "sampler": Maybe(str), "preset": Maybe(str), "drafter": Maybe(str), "executor": str, "stop": Maybe(str),
    "temperature": float, "kept": Maybe(int), "accepted": int, "drafted": int, "verified": int, "target_forwards": int,
    "tokens": int, "block_efficiency": Maybe(float), "block_efficiency_low": Maybe(float),
    "block_efficiency_high": Maybe(float), "tokens_per_second": Maybe(float), "speedup_vs_autoregressive": Maybe(float),
    "speedup_vs_autoregressive_low": Maybe(float), "speedup_vs_autoregressive_high": Maybe(float),
    "speedup_vs_unpruned": Maybe(float), "speedup_vs_unpruned_low": Maybe(float), "speedup_vs_unpruned_high": Maybe(float),
    "speedup_by_costs": Maybe(float), "lossless": Maybe(str), "lossy": Maybe(str), "optimal_acceptance": Maybe(float),
}  # fmt: skip
_RATED: dict[str, Shape] = {
    "use": {"form": Maybe(str), "sampler": Maybe(str), "options": Each(ANYTHING), "stop": Maybe(str), "length": Maybe(int)},
    "speedup": {"ratio": float, "low": float, "high": float}, "predicted": float, "prompts": int,
}  # fmt: skip
_ROUNDS: dict[str, Shape] = {
    "sampler": str, "preset": Maybe(str), "drafter": str, "executor": str, "stop": Maybe(str), "temperature": float,
    "drafter_forwards": Maybe(int), "oracle_by_costs": Maybe(float),
    "positions": [
        {"position": int, "verified": int, "accepted": int, "rate": Maybe(float), "low": Maybe(float), "high": Maybe(float)}
    ],
}  # fmt: skip
REPORT: dict[str, Shape] = {
    "schema": int, "device": str, "dtype": str, "pair": str, "vocabulary": int, "kept": int, "coverage": float,
    "drafter_vocabulary": int, "code": Maybe(str), "definitions": Each(str), "threads": int,
    "costs": {
        "t": float, "d_full": float, "d_pruned": float, "c": float, "t_n": [{"n": int, "median": float}],
        "d": [{"drafter": str, "median": float}],
    },
    "prompts": {"suite": str, "count": int, "max_new_tokens": int, "repeats": int},
    "greedy_identity": {"outputs": int, "identical": int, "ties": int, "different": int},
    "rows": [_ROW], "rounds": Maybe([_ROUNDS]), "warnings": Maybe([str]),
    "verdict": Maybe([_RATED | {"temperature": float, "reason": str, "next": [_RATED]}]),
}  # fmt: skip
CERTIFICATE: dict[str, Shape] = {
    "schema": int, "code": str, "device": str, "dtype": str,
    "samplers": Each(
        {
            "status": str, "cells": Maybe(int), "exact_error": Maybe(float), "n": Maybe(int), "detectable_tv": Maybe(float),
            "p_values": Maybe(Each(Maybe(float))), "mutants": Maybe(int), "mutants_killed": Maybe(int), "failures": Maybe([str]),
        }
    ),
    "matrix": Maybe([{"source": str, "bug": str, "test": str, "found": bool}]),
}  # fmt: skip
CURVE: dict[str, Shape] = {
    "schema": int,
    "points": [
        _RATE | {"variant": str, "temperature": float, "kept": int, "acceptance_rate": float, "speedup": Maybe(float)}
    ],
    "knee": Maybe({"kept": int, "reason": str}),  # the chosen size, and why
}
DISCO: dict[str, Shape] = {
    "sampler": str,
    "calibration": [
        {
            "temperature": float,
            "output": str,
            "drafts": int,  # held out
            "ece": float,
            "auc": Maybe(float),
            "roc": Maybe([{"false_positive": float, "true_positive": float}]),  # of "this draft will be accepted", in order
            "bins": Maybe([{"predicted": float, "observed": float, "count": int}]),  # means of one bin each
        }
    ],
    "replayed": [
        {
            "suite": str,
            "temperature": float,
            "requests": int,
            "rows": [
                {
                    "policy": str, "speed": float, "tokens_per_forward": float, "drafted_per_round": float,
                    "wasted": Maybe(float), "gap_closed": Maybe(float),
                }
            ],
        }
    ],
}  # fmt: skip
DSI: dict[str, Shape] = {
    "schema": int,
    "unit": str,  # of begin and end, e.g. "ms"
    "runs": [
        {
            "name": str,
            "tokens": int,
            "lanes": [{"label": str, "spans": [{"begin": float, "end": float, "kind": str}]}],  # draft | verify | stale
        }
    ],
}


@dataclass(frozen=True)
class Further:
    """What a page shows beside the report; None where it was not measured."""

    certificate: Mapping[str, Any] | None = None
    curve: Mapping[str, Any] | None = None
    disco: Mapping[str, Any] | None = None
    dsi: Mapping[str, Any] | None = None


def read_report(path: Path) -> dict[str, Any]:
    """A report.json. Raises ReportError as `read` does, and for one of a newer schema."""
    return _known(path, REPORT, EVAL)


def newest_report(runs: Path) -> Path:
    """The report made last below `runs`. Raises ReportError where there is none."""
    if (found := _newest(runs, "eval/*/report.json")) is None:
        raise ReportError(
            f"{runs}: expected a report of an evaluation (eval/*/report.json), got none; make one with: {EVAL}"
        )
    return found


def further(runs: Path, code: str | None) -> Further:
    """What is found below `runs`, the newest of each kind; of certificates rather the one of this code.

    Raises ReportError where a file is not what its name says.
    """
    certificates = [_known(path, CERTIFICATE, CERTIFY) for path in _found(runs, "lossless/*/certificate.json")]
    own = [found for found in certificates if found["code"] == code]
    curve, disco = _newest(runs, "sweep/*/curve.json"), _newest(runs, "train-disco/*/report.json")
    dsi = _newest(runs, "dsi/**/timeline.json")
    return Further(
        certificate=next(iter(own or certificates), None),
        curve=None if curve is None else _known(curve, CURVE, CURVE_COMMAND),
        disco=None if disco is None else read(disco, DISCO, DISCO_COMMAND),
        dsi=None if dsi is None else _known(dsi, DSI, DSI_COMMAND),
    )


def _known(path: Path, shape: Mapping[str, Shape], command: str) -> dict[str, Any]:
    found = read(path, shape, command)
    if found["schema"] > SCHEMA:
        raise ReportError(
            f"{path}: schema: expected at most {SCHEMA}, got {found['schema']}: a newer version wrote it; update this clone"
        )
    return found


def _newest(runs: Path, pattern: str) -> Path | None:
    return next(iter(_found(runs, pattern)), None)


def _found(runs: Path, pattern: str) -> list[Path]:
    """Newest first; what a stage is still writing, or was killed in, lies in a folder whose name begins with a dot."""
    whole = [
        path for path in runs.glob(pattern) if not any(part.startswith(".") for part in path.relative_to(runs).parts)
    ]
    return sorted(whole, key=lambda path: (-path.stat().st_mtime, path.as_posix()))
