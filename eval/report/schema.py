"""report.json as dataclasses: its checks, its definitions and its reference page all follow from these fields.

Fields without a default are what readers may rely on, in this order.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from drafters.package.recommendation.choices import Choice
from eval.acceptance.optimality_gap import Ranks
from eval.report.row import Amount, Count, ReportRow, RowRounds, Share
from eval.report.texts.answer import Answers
from eval.run.trials import Warps
from eval.verdict.prediction import Overheads

SCHEMA = 1
Known = Annotated[int, Field(ge=1, le=SCHEMA)]  # the schema of a file that this version reads


@dataclass(frozen=True)
class VerifyPrice:
    """Seconds of a target forward of n tokens, with quartiles."""

    n: Count
    median: Amount
    low: Amount | None = None
    high: Amount | None = None


@dataclass(frozen=True)
class DraftPrice:
    """Seconds of a drafter forward of one token, with quartiles."""

    drafter: str
    median: Amount
    low: Amount | None = None
    high: Amount | None = None


@dataclass(frozen=True, kw_only=True)
class ForwardCosts:
    """Seconds that the forwards of both models take, with what a draft costs of a target forward."""

    t: Amount
    """seconds of a target forward of one token"""
    d_full: Amount
    """seconds of a drafter forward, unpruned"""
    d_pruned: Amount
    """seconds of a drafter forward, packaged"""
    c: Amount
    """d_pruned / t: what a draft costs of a target forward"""
    t_n: tuple[VerifyPrice, ...]
    d: tuple[DraftPrice, ...]
    c_full: Amount | None = None
    context: Count | None = None
    runs: Count | None = None


@dataclass(frozen=True)
class EngineOverheads(Overheads):
    """Overheads, and what the forwards of the timed runs should have taken of what whole runs took."""

    forwards_over_measured: float = 0.0


@dataclass(frozen=True)
class DrafterRanks(Ranks):
    """The measured ranks of a race with one drafter."""

    drafter: str
    temperature: Amount


@dataclass(frozen=True)
class HeldOutFigure:
    """One acceptance, as a stage measured it and as the package gives it."""

    stage: str
    law: str
    stated: float
    found: float


@dataclass(frozen=True)
class ModelId:
    """A model: a Hub id with its commit, or a folder's name with the hash of its content."""

    id: str
    revision: str | None


@dataclass(frozen=True)
class PromptSet:
    """The suite whose prompts were continued, and how many of them."""

    suite: str
    count: Count
    max_new_tokens: Count
    repeats: Count


@dataclass(frozen=True)
class CoveredDomain:
    """A part of the counted text, and which share of it can be proposed."""

    domain: str
    coverage: Share


@dataclass(frozen=True)
class FailedOutput:
    """A greedy output that is not the target's own."""

    sampler: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class GreedyIdentity:
    """How many outputs at temperature 0 equal plain decoding's."""

    status: str = "not required"  # ok | error | not required: in other precisions than fp32
    outputs: Count
    prompts: Count | None = None
    identical: Count
    ties: Count
    different: Count
    failed: tuple[FailedOutput, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that an evaluation says."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    schema: Known
    device: str
    dtype: str
    pair: str
    vocabulary: Count
    kept: Count
    coverage: Share
    """share of the target's tokens of the counted text that can be proposed"""
    costs: ForwardCosts
    rows: tuple[ReportRow, ...]
    drafter_vocabulary: Count
    threads: Count
    prompts: PromptSet
    greedy_identity: GreedyIdentity
    definitions: Mapping[str, str]
    """what the fields of rows and rounds mean"""
    least_covered: CoveredDomain | None = None
    """the least covered domain of the counted text, where that is below prune.warn_coverage"""
    models: Mapping[str, ModelId] = field(default_factory=dict)
    warps: Warps | None = None
    """top_k and top_p of the target, and how drafts were drawn where it was otherwise"""
    code: str | None = None
    """hash of the code that measured"""
    certified: bool = False
    """there was a certificate of exactly this code"""
    certificate_shipped: bool = False
    """that one came with the code"""
    ranks: tuple[DrafterRanks, ...] = ()
    rounds: tuple[RowRounds, ...] | None = None
    not_applied: Mapping[str, object] = field(default_factory=dict)
    """of the target's generation config"""
    verdict: tuple[Choice, ...] | None = None
    """what to use at each temperature, and the next best"""
    overheads: EngineOverheads | None = None
    """seconds that the engine adds to its forwards"""
    warnings: tuple[str, ...] | None = None
    held_out: tuple[HeldOutFigure, ...] = ()
    """acceptances as earlier stages measured them beside the package's own on the same text"""
    held_out_said: tuple[str, ...] | None = None
    absent: tuple[str, ...] = ()
    """what the package lacks, and the command that makes it"""
    left_out: tuple[str, ...] = ()
    """rows that were not timed, and why"""
    selection: str | None = None
    """eval.rows"""
    texts: Answers | None = None
    """a few answers, token by token; null where none were asked for"""

    @property
    def positions(self) -> int:
        """Most positions of the target's own text that a row's expectations rest on; 0 without any."""
        return max((row.text_positions or 0 for row in self.rows), default=0)

    def command(self, stage: str, *options: str) -> str:
        """What makes `stage` for this report's pair, and for eval on its prompts."""
        own = ["pair=local", "pair.target=DIR", "pair.drafter=DIR", "corpus.path=FILE"]
        pair = own if self.pair == "local" else [f"pair={self.pair}"]
        named = self.prompts.suite
        suite = [f"suite={named}", *["suite.path=FILE"] * (named == "local")] if stage == "eval" else []
        return f'make {stage} ARGS="{" ".join([*pair, *suite, *options])}"'


REPORT = TypeAdapter(Report)


@cache
def definitions(kind: type) -> dict[str, str]:
    """Field -> what it means, of those that say it."""
    schema = REPORT.json_schema(mode="validation")
    properties = (schema if kind is Report else schema["$defs"][kind.__name__])["properties"]
    return {name: " ".join(own["description"].split()) for name, own in properties.items() if "description" in own}


def required(kind: type) -> tuple[str, ...]:
    """The fields that readers may rely on, in this order."""
    lacking = dataclasses.MISSING
    return tuple(f.name for f in dataclasses.fields(kind) if f.default is lacking and f.default_factory is lacking)


def to_json(report: Report) -> bytes:
    """Raises ValueError for NaN or infinity, which are no JSON."""
    return (json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n").encode()


def to_csv(report: Report) -> bytes:
    """The rows; an empty cell is null."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [item.name for item in dataclasses.fields(ReportRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in report.rows)
    return stream.getvalue().encode()
