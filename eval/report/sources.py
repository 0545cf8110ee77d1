"""The files a page is made of: report.json, and what other commands found out, each with the fields that are read of it.

Further measurements are found below `runs` by their names; none is needed. Of their files other fields are nobody's business here,
report.json has no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from drafters.errors import DraftersError
from eval.report.schema import REPORT, Known, Report
from eval.stop.policy_comparison import PolicyRow

MOST_BYTES = 64 << 20  # of a file that is read: a report of thousands of rows is 10 MB
EVAL, CERTIFY = 'make eval ARGS="..."', "make lossless"
KINDS = {
    "string": "a text", "int": "a whole number", "float": "a number", "finite": "a number", "bool": "true or false",
    "tuple": "a list", "list": "a list", "dict": "an object", "dataclass": "an object", "missing": "this field",
    "unexpected": "no such field",
}  # fmt: skip
T = TypeVar("T")


class ReportError(DraftersError):
    """A file that cannot be shown or compared; the message names file and field, and the command that makes it."""


class SamplerProof(TypedDict):
    """What the gate found out about a sampler."""

    status: str
    cells: NotRequired[int | None]
    exact_error: NotRequired[float | None]
    n: NotRequired[int | None]
    detectable_tv: NotRequired[float | None]
    p_values: NotRequired[dict[str, float | None] | None]
    mutants: NotRequired[int | None]
    mutants_killed: NotRequired[int | None]
    failures: NotRequired[list[str] | None]


class PlantedBug(TypedDict):
    """A planted bug under one test."""

    source: str
    bug: str
    test: str
    found: bool


_READ = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")


@with_config(_READ)
class Certificate(TypedDict):
    """lossless/*/certificate.json: what the gate proved."""

    schema: Known
    code: str
    device: str
    dtype: str
    samplers: dict[str, SamplerProof]
    matrix: NotRequired[list[PlantedBug] | None]


class CurvePoint(TypedDict):
    """Acceptance at one size of the kept vocabulary."""

    variant: str
    temperature: float
    kept: int
    acceptance_rate: float
    acceptance_rate_low: NotRequired[float | None]
    acceptance_rate_high: NotRequired[float | None]
    speedup: NotRequired[float | None]


class Knee(TypedDict):
    """The chosen size, and why."""

    kept: int
    reason: str


@with_config(_READ)
class Curve(TypedDict):
    """sweep/*/curve.json: acceptance by kept vocabulary."""

    schema: Known
    points: list[CurvePoint]
    knee: NotRequired[Knee | None]


class RocPoint(TypedDict):
    """A point of the curve of "this draft will be accepted"."""

    false_positive: float
    true_positive: float


class Bin(TypedDict):
    """Means of the drafts of one bin."""

    predicted: float
    observed: float
    count: int


class Calibration(TypedDict):
    """How good one output of the stop classifier is on held-out drafts."""

    temperature: float
    output: str
    drafts: int
    ece: float
    auc: NotRequired[float | None]
    roc: NotRequired[list[RocPoint] | None]
    bins: NotRequired[list[Bin] | None]


class Replay(TypedDict):
    """All policies on the drafts of one suite at one temperature."""

    suite: str
    temperature: float
    requests: int
    rows: list[PolicyRow]


@with_config(_READ)
class Disco(TypedDict):
    """train-disco/*/report.json: the stop classifier and all policies on held-out prompts."""

    sampler: str
    calibration: list[Calibration]
    replayed: list[Replay]
    revisions: NotRequired[dict[str, str | None]]


class Span(TypedDict):
    """Work from begin to end: draft, verify or stale."""

    begin: float
    end: float
    kind: str


class TimelineLane(TypedDict):
    """The intervals in which one machine was at work."""

    label: str
    spans: list[Span]


class TimelineRun(TypedDict):
    """One way to decode the same request."""

    name: str
    tokens: int
    lanes: list[TimelineLane]


@with_config(_READ)
class Timeline(TypedDict):
    """dsi/**/timeline.json: who computed what when, with and without speculation parallelism."""

    schema: Known
    unit: str  # of begin and end, e.g. "ms"
    runs: list[TimelineRun]


@dataclass(frozen=True)
class Further:
    """What a page shows beside the report; None where it was not measured."""

    certificate: Certificate | None = None
    curve: Curve | None = None
    disco: Disco | None = None
    dsi: Timeline | None = None


def read_report(path: Path) -> Report:
    """A report.json.

    Raises:
        ReportError: no such file, too large, no JSON, of a newer schema, or a field that is missing, unknown or wrong.
    """
    return _read(path, REPORT, EVAL)


def newest_report(runs: Path) -> Path:
    """The report made last below `runs`. Raises ReportError where there is none."""
    if not (found := _found(runs, "eval/*/report.json")):
        raise ReportError(
            f"{runs}: expected a report of an evaluation (eval/*/report.json), got none; make one with: {EVAL}"
        )
    return found[0]


def further(runs: Path, code: str | None) -> Further:
    """What is found below `runs`, the newest of each kind; of certificates rather the one of this code.

    Raises ReportError where a file is not what its name says.
    """
    certificates = [
        _read(path, TypeAdapter(Certificate), CERTIFY) for path in _found(runs, "lossless/*/certificate.json")
    ]
    own = [found for found in certificates if found["code"] == code]
    return Further(
        certificate=next(iter(own or certificates), None),
        curve=_newest(runs, "sweep/*/curve.json", TypeAdapter(Curve), "make sweep"),
        disco=_newest(runs, "train-disco/*/report.json", TypeAdapter(Disco), "make train-disco"),
        dsi=_newest(runs, "dsi/**/timeline.json", TypeAdapter(Timeline), "make dsi-sim"),
    )


def _newest(runs: Path, pattern: str, kind: TypeAdapter[T], command: str) -> T | None:
    return next((_read(path, kind, command) for path in _found(runs, pattern)), None)


def _found(runs: Path, pattern: str) -> list[Path]:
    """Newest first; what a stage is still writing, or was killed in, lies in a folder whose name begins with a dot."""
    whole = [
        path for path in runs.glob(pattern) if not any(part.startswith(".") for part in path.relative_to(runs).parts)
    ]
    return sorted(whole, key=lambda path: (-path.stat().st_mtime, path.as_posix()))


def _read(path: Path, kind: TypeAdapter[T], command: str) -> T:
    again = f"make the file again with: {command}"
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ReportError(f"{path}: expected at most {MOST_BYTES:,} bytes, got {size:,}; {again}")
        return kind.validate_json(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error}); {again}") from error
    except ValidationError as error:
        raise ReportError(f"{path}: {_wrong(error.errors(include_url=False)[0])}; {again}") from error


def _wrong(error: ErrorDetails) -> str:
    """Where, what was expected and what was found."""
    kind, got = error["type"], repr(error["input"])[:60]
    if kind == "json_invalid":
        return f"cannot be read as JSON ({error['msg']})"
    where = "".join(f"[{step}]" if isinstance(step, int) else f": {step}" for step in error["loc"]).removeprefix(": ")
    limits: Mapping[str, Any] = error.get("ctx", {})
    expected = KINDS.get(kind.partition("_")[0], error["msg"])
    if kind == "less_than_equal":
        expected = f"at most {limits['le']:g}"
    elif kind == "greater_than_equal":
        expected = f"at least {limits['ge']:g}"
    elif kind.endswith("too_long"):
        expected = f"at most {limits['max_length']} {'characters' if kind.startswith('string') else 'items'}"
    elif kind == "string_pattern_mismatch":
        expected = f"a text of the form {limits['pattern']}"
    elif kind == "literal_error":
        expected = limits["expected"]
    elif kind == "missing":
        got = "nothing"
    newer = (
        ", as a newer version writes it: update this clone" if where == "schema" and kind == "less_than_equal" else ""
    )
    return f"{where or 'content'}: expected {expected}, got {got}{newer}"
