"""docs/results.md: every figure out of a file of eval/results."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docs.generator.markdown import page as as_page
from docs.generator.markdown import ratio, spread, table
from docs.generator.results_text import INTRODUCTION, NOTES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "eval" / "results" / "cpu"
TEMPERATURES = ("0.0", "1.0")


def load(name: str) -> Any:
    """A result file of the CPU: parsed JSON, or the rows of a CSV file."""
    path = FOLDER / name
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    return json.loads(path.read_text(encoding="utf-8"))


def page() -> str:
    """The whole page."""
    return as_page(
        "Results",
        INTRODUCTION,
        "## Speed",
        NOTES["speed"],
        _speed(),
        NOTES["compiled"],
        "## What the parts cost",
        NOTES["parts"],
        _parts(),
        "## How much vocabulary to keep",
        NOTES["vocabulary"],
        _vocabulary(),
        "## When to stop drafting",
        NOTES["stop"],
        _stop_policies(),
        NOTES["gap"],
        _gap(),
        "## Losslessness",
        NOTES["lossless"],
        _lossless(),
        _outputs(),
    )


def summary() -> str:
    """README's table: six rows, each with the file that holds its figures."""
    heat, counting = load("bench_engine.json")["temperatures"], load("bench_counting.json")
    steps, identity = load("bench_steps.json")["vocabularies"], load("identity.json")["total"]
    saved = [100 * entry["pruned"]["0.25"]["time_saved"] for entry in steps.values()]
    curve = {row["method"]: float(row["acceptance"]) for row in _curve(0.25)}
    ways = ", ".join(f"{said} {curve[name]:.3f}" for name, said in (("tli", "tli"), ("rdk", "rdk"), ("tail_trained", "tail")))
    exact = [item["exact_error"] for item in load("certificate.json")["samplers"].values() if item["exact_error"] is not None]
    rows = [
        ["speculative decoding over transformers' assisted generation", _both(lambda t: ratio(heat[t]["vs_transformers_assisted"])), "bench_engine.json"],
        ["time of a draft step saved with a quarter of the vocabulary", f"{spread(saved, 0)} %, by vocabulary size", "bench_steps.json"],
        ["acceptance of a draft with a quarter of the vocabulary", f"{ways} (unpruned {float(_curve(1.0)[0]['acceptance']):.3f})", "curve_pycode.csv"],
        ["`cost_aware` stop policy over the best constant draft length", _both(lambda t: _gains("held-out traces", float(t))["cost_aware"]), "train_disco.json"],
        ["exact token counting over `encode_batch_fast`", f"{counting['ratio']:.1f}x", "bench_counting.json"],
        ["greedy outputs that equal plain decoding's; largest error of a distribution", f"{identity['identical']} of {sum(identity.values())}; {max(exact):.0e}", "identity.json, certificate.json"],
    ]  # fmt: skip
    return table(["", "", "file"], [[*row[:2], _links(row[2])] for row in rows])


def _both(figure: Callable[[str], str]) -> str:
    return ", ".join(f"T = {float(t):g}: {figure(t)}" for t in TEMPERATURES)


def _links(files: str) -> str:
    return ", ".join(f"[{name}](eval/results/cpu/{name})" for name in files.split(", "))


def _speed() -> str:
    rows: list[list[str]] = []
    for name, said in (("bench_engine.json", "compiled"), ("bench_engine_uncompiled.json", "not compiled")):
        found = load(name)
        heat, length = found["temperatures"], found["options"]["length"]
        best = " / ".join(heat[t]["best"].replace("_", " ") for t in TEMPERATURES)
        rows += [
            [f"{said}: plain decoding over transformers' `generate`", *_each(heat, "vs_transformers_generate")],
            [f"{said}: speculative over its assisted generation, same drafter, {length} drafts", *_each(heat, "vs_transformers_assisted")],
            [f"{said}: the same, ours with the packaged drafter", *_each(heat, "packaged_vs_transformers_assisted")],
            [f"{said}: best static length ({best}) over our own plain decoding", *_each(heat, "vs_autoregressive")],
            [f"{said}: the same, of the ideal speed-up from acceptance and single forwards' costs", *(f"{100 * heat[t]['share_of_ideal']:.0f} %" for t in TEMPERATURES)],
        ]  # fmt: skip
    passed = load("bench_engine.json")["gate"]["assisted_foreign"]["passes"]
    rows.append(["transformers' cross-tokenizer sampling has the target's distribution", "-", "yes" if passed else "no"])
    return table(["", "T = 0", "T = 1"], rows)


def _each(heat: Any, name: str) -> list[str]:
    return [ratio(heat[t][name]) for t in TEMPERATURES]


def _parts() -> str:
    uncompiled, costs, batch = load("bench_engine_uncompiled.json"), load("bench_costs.json"), load("bench_batch.json")
    eight, memory = batch["sizes"]["8"], batch["kv_bytes_per_token"]
    verify = load("bench_verify.json")["vocabularies"]["151936"]
    bounds, counting = load("bench_bounds.json"), load("bench_counting.json")
    together = f"{eight['autoregressive']['vs_one']:.1f}x / {eight['speculative']['vs_one']:.1f}x; {eight['ceiling']:.1f}x"
    rows = [
        ["time of a round outside of model forwards (not compiled)", f"{100 * uncompiled['outside_forwards']['share']:.0f} %"],
        ["cost model: predicted against measured tokens/s, worst length", f"{100 * costs['worst_error']:.0f} % off"],
        ["8 requests together over one, plain / speculative; of the matrix products alone", together],
        ["keys and values per token: allocated / by the configuration", f"{memory['allocated']:,} / {memory['theory']:,} bytes"],
        *_pruned_steps(),
        *_redistribution(),
        *([f"verifying {item['nodes']} drafts at V = 151,936: {name}", f"{item['milliseconds']:.1f} ms, {item['per_floor']:.0f}x reading the distributions once"] for name, item in verify.items() if name in ("standard", "block")),
        *_stop_decisions(),
        ["optimum of 4 drafts with replacement / 2 without, V = 151,936", " / ".join(f"{bounds['milliseconds'][name]:.0f}" for name in ("with_replacement_4", "without_replacement_2")) + " ms"],
        [f"counting {counting['megabytes']:.0f} MB over `encode_batch_fast` on the same threads, counts equal", f"{counting['ratio']:.1f}x ({counting['ratio_low']:.1f}-{counting['ratio_high']:.1f})"],
        ["peak memory of the comparison with transformers", f"{load('bench_engine.json')['peak_rss_bytes'] / 1e9:.2f} GB"],
    ]  # fmt: skip
    return table(["", ""], rows)


def _pruned_steps() -> list[list[str]]:
    found = load("bench_steps.json")["vocabularies"]
    said = "pruned drafter step, compiled: time saved over bytes saved, 50 to 1 % kept, V ="
    return [
        [f"{said} {int(size):,}", spread(item["of_bytes_saved"] for item in entry["pruned"].values())]
        for size, entry in found.items()
    ]


def _redistribution() -> list[list[str]]:
    found = load("bench_redistribution.json")["vocabularies"].values()
    kinds = (("rank one", "rdk_first_order_ratio"), ("per donor", "rdk_sparse_ratio"))
    said = "a prior's redistribution over copying its inputs and outputs once, V = 8k to 256k:"
    return [[f"{said} {kind}", spread((item[name] for item in found), 1) + "x"] for kind, name in kinds]


def _stop_decisions() -> list[list[str]]:
    rows = []
    for drafter, found in load("bench_stop.json")["drafters"].items():
        kinds = [found[name] for name in ("T=0", "T=1")]
        behind, loop = (spread((100 * item[name] for item in kinds), 0) for name in ("disco_step_share", "in_a_loop_share"))
        rows.append([f"a trained policy's decision over a drafter forward, {drafter}: behind a forward; in a loop", f"{behind} %; {loop} %"])  # fmt: skip
    return rows


def _curve(share: float, temperature: float = 1.0) -> list[dict[str, str]]:
    rows = load("curve_pycode.csv")
    return [row for row in rows if float(row["temperature"]) == temperature and abs(float(row["kept_share"]) - share) < 1e-3]


def _vocabulary() -> str:
    shares = sorted({round(float(row["kept_share"]), 2) for row in load("curve_pycode.csv")} - {1.0}, reverse=True)
    made = []
    for share in shares:
        rows = {row["method"]: row for row in _curve(share)}
        free = max((row for name, row in rows.items() if name.startswith("tail_free")), key=lambda row: float(row["tokens_per_second"]))
        trained, healed = rows["tail_trained"], rows["tail_distilled"]
        made.append([
            f"{100 * share:.0f} %",
            *(f"{float(rows[name]['acceptance']):.3f}" for name in ("tli", "rdk")),
            f"{float(free['acceptance']):.3f} ({free['method'].removeprefix('tail_free_').replace('_top', ', likeliest ')})",
            f"{100 * float(free['head_share']):.0f} %",
            *(f"{float(item['acceptance']):.3f}" for item in (trained, healed)),
            f"{100 * float(trained['head_share']):.0f} %",
        ])  # fmt: skip
    full = float(_curve(1.0)[0]["acceptance"])
    head = ["kept", "tli", "rdk", "tail, training-free (rank)", "its head", "tail, trained", "kept rows healed, too", "head"]
    return f"The unpruned drafter has {full:.3f}.\n\n{table(head, made)}"


def _gains(suite: str, temperature: float) -> dict[str, str]:
    """Policy -> its speed over the best constant length, in percent with the 95 % interval."""
    replayed = load("train_disco.json")["replayed"]
    found = next(item for item in replayed if (item["suite"], item["temperature"]) == (suite, temperature))
    return {name: _gain(*values) for name, values in found["gain_over_static"].items()}


def _gain(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _stop_policies() -> str:
    found = load("train_disco.json")
    names = list(found["replayed"][0]["gain_over_static"])
    rows = [
        [item["suite"], f"{item['temperature']:g}", *(_gain(*item["gain_over_static"][name]) for name in names)]
        for item in found["replayed"]
    ]
    lengths = ", ".join(f"{tuned['static']} drafts at T = {heat}" for heat, tuned in found["tuned"].items())
    return f"The best constant length, tuned on validation text: {lengths}.\n\n{table(['', 'T', *names], rows)}"


def _gap() -> str:
    found = load("train_disco.json")
    ran = {(item["temperature"], item["policy"]): item["clock_speed"] for item in found["ran"]}
    first = {item["temperature"]: item["rows"] for item in found["replayed"] if item["suite"] == "held-out traces"}
    rows = []
    for heat, policies in first.items():
        for row in policies:
            clock, gap = ran.get((heat, row["policy"])), row["gap_closed"]
            shown = "-" if gap is None else f"{100 * gap:.0f} %"
            rows.append([f"{heat:g}", row["policy"], f"{row['speed']:.2f}", f"{row['drafted_per_round']:.1f}", shown, "-" if clock is None else f"{clock:.2f}x"])  # fmt: skip
    return table(["T", "policy", "speed", "drafts a round", "of the way to the oracle", "by the clock over plain"], rows)


def _lossless() -> str:
    found = load("certificate.json")
    rows = [
        [name, item["status"], item["cells"], "-" if item["exact_error"] is None else f"{item['exact_error']:.0e}", f"{item['mutants_killed']} of {item['mutants']}"]
        for name, item in found["samplers"].items()
    ]  # fmt: skip
    bugs = {item["bug"] for item in found["matrix"]}
    one = next(iter(found["samplers"].values()))
    said = (
        f"{len(bugs)} planted bugs, {len(found['matrix'])} pairs of a bug and a test that can see it, all found. Samples: {one['n']:,} per "
        f"sampler, which show a total variation of {one['detectable_tv']:.2f} with power {one['power']}."
    )
    return f"{said}\n\n{table(['sampler', 'proof', 'combinations', 'largest error', 'planted bugs found'], rows)}"


def _outputs() -> str:
    identity, nll, race = load("identity.json"), load("nll.json"), load("race_identity.json")
    total = identity["total"]
    worst = max(abs(row["z_plain"]) for row in nll["rows"] if row["z_plain"] is not None)
    rows = [
        ["T = 0: outputs equal to plain greedy decoding's", f"{total['identical']:,} of {sum(total.values()):,}, {total['tie']} ties", "identity.json"],
        ["T = 1: largest z-score of the likelihood against plain sampling", f"{worst:.1f} (limit {nll['limit']})", "nll.json"],
        ["races: outputs that part from plain race decoding", f"{sum(row['parted'] for row in race['rows'])} of {sum(row['outputs'] for row in race['rows'])}", "race_identity.json"],
    ]  # fmt: skip
    return table(["real models", "", "file"], rows)
