"""Every benchmark by the name of its command and of its file in runs/bench."""

from collections.abc import Mapping

BENCHES: Mapping[str, str] = {
    "counting": "eval.bench.counting",
    "steps": "eval.bench.steps",
    "redistribution": "eval.bench.redistribution",
    "verify": "eval.bench.verifiers",
    "stop": "eval.bench.stop_policies",
    "bounds": "eval.bench.bounds",
    "batch": "eval.bench.batch",
    "costs": "eval.bench.cost_model",
    "engine": "eval.bench.engine",
}
