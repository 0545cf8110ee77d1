"""The prices of an evaluation: measured once, kept until its report is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from eval.costs.forwards import Costs, Timing
from pipeline.runner.stage import Context, write_atomic


def kept_costs(context: Context, measure: Callable[[], Costs]) -> Costs:
    """The costs that the first attempt of this run measured.

    Which trees are timed, and so what the parts of a killed run hold, may hang on them: a later attempt must not measure others.
    """
    part = context.out / ".part-costs.json"
    if not part.exists():
        write_atomic(part, json.dumps(asdict(measure())).encode())
    found: dict[str, Any] = json.loads(part.read_text(encoding="utf-8"))
    return Costs(
        target=_timings(found["target"]),
        drafters={name: Timing(**item) for name, item in found["drafters"].items()},
        context=found["context"],
        wide={name: _timings(items) for name, items in found["wide"].items()},
    )


def _timings(items: Mapping[str, Any]) -> dict[int, Timing]:
    """JSON has no numbers for keys."""
    return {int(n): Timing(**item) for n, item in items.items()}
