"""README's table."""

from __future__ import annotations

from collections.abc import Callable

from docs.generator.markdown import ratio, spread, table
from docs.generator.results.files import TEMPERATURES, load
from docs.generator.results.stop_policies import gains
from docs.generator.results.vocabulary import curve


def summary() -> str:
    """README's table: six rows, each with the file that holds its figures."""
    heat, counting = load("bench_engine.json")["temperatures"], load("bench_counting.json")
    steps, identity = load("bench_steps.json")["vocabularies"], load("identity.json")["total"]
    saved = [100 * entry["pruned"]["0.25"]["time_saved"] for entry in steps.values()]
    kept = {row["method"]: float(row["acceptance"]) for row in curve(0.25)}
    ways = ", ".join(
        f"{said} {kept[name]:.3f}" for name, said in (("tli", "tli"), ("rdk", "rdk"), ("tail_trained", "tail"))
    )
    exact = [
        item["exact_error"] for item in load("certificate.json")["samplers"].values() if item["exact_error"] is not None
    ]
    rows = [
        [
            "speculative decoding over transformers' assisted generation",
            _both(lambda t: ratio(heat[t]["vs_transformers_assisted"])),
            "bench_engine.json",
        ],
        [
            "time of a draft step saved with a quarter of the vocabulary",
            f"{spread(saved, 0)} %, by vocabulary size",
            "bench_steps.json",
        ],
        [
            "acceptance of a draft with a quarter of the vocabulary",
            f"{ways} (unpruned {float(curve(1.0)[0]['acceptance']):.3f})",
            "curve_pycode.csv",
        ],
        [
            "`cost_aware` stop policy over the best constant draft length",
            _both(lambda t: gains("held-out traces", float(t))["cost_aware"]),
            "train_disco.json",
        ],
        ["exact token counting over `encode_batch_fast`", f"{counting['ratio']:.1f}x", "bench_counting.json"],
        [
            "greedy outputs that equal plain decoding's; largest error of a distribution",
            f"{identity['identical']} of {sum(identity.values())}; {max(exact):.0e}",
            "identity.json, certificate.json",
        ],
    ]
    return table(["", "", "file"], [[*row[:2], _links(row[2])] for row in rows])


def _both(figure: Callable[[str], str]) -> str:
    return ", ".join(f"T = {float(t):g}: {figure(t)}" for t in TEMPERATURES)


def _links(files: str) -> str:
    return ", ".join(f"[{name}](eval/results/cpu/{name})" for name in files.split(", "))
