"""A real pair, suite by suite: what `eval/real_check.sh` left in eval/results/cpu/smollm2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from docs.generator.markdown import ratio, table
from docs.generator.results.files import FOLDER

PLACE = FOLDER / "smollm2"
SUITES = {
    "gsm8k": "school arithmetic (GSM8K)", "mt_bench": "chat (MT-Bench)", "humaneval": "code (HumanEval)",
    "languages": "13 languages other than English",
}  # fmt: skip
HEATS = (0.0, 1.0)
CURVE = "The unpruned drafter's acceptance is {full}; *head*: weights read per draft, of the whole head's."


def parts() -> list[str]:
    """The paragraphs of the section; none where nothing was measured."""
    found = [_speed(), _curve(), _policies(), _outputs()]
    return [part for several in found for part in several]


def load(name: str) -> Any:
    """A result, parsed; None where it was not made."""
    path = PLACE / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _by_suite(kind: str) -> dict[str, Any]:
    return {name: found for name in SUITES if (found := load(f"{kind}_{name}")) is not None}


def _reports() -> list[tuple[str, Any]]:
    """(suite, its report) of each precision."""
    found = [_by_suite(kind) for kind in ("eval", "eval_bf16")]
    return [(suite, own[suite]) for suite in SUITES for own in found if suite in own]


def speeds(report: Mapping[str, Any], heat: float) -> dict[str, Mapping[str, Any]]:
    """What is compared of a suite's rows at one temperature: name -> row."""
    rows = [row for row in report["rows"] if row["temperature"] == heat]
    found = {}
    for name, drafter in (("unpruned", "unpruned"), ("pruned", "package"), ("pruned, with its tail", "tail")):
        own = [row for row in rows if row["drafter"] == drafter and row["executor"] == "speculative"]
        if own:
            found[name] = max(own, key=lambda row: row["tokens_per_second"])
    theirs = {row["preset"]: row for row in rows if row["executor"] == "transformers"}
    return found | {f"transformers' {name}": row for name, row in theirs.items()}


def _speed() -> list[str]:
    rows = []
    for suite, report in _reports():
        for heat in HEATS:
            for name, row in speeds(report, heat).items():
                over = [_ratio(row, f"speedup_vs_{base}") for base in ("autoregressive", "unpruned", "assisted")]
                drafts = "-" if row["nodes"] is None else str(row["nodes"])
                accepted = "-" if row["acceptance"] is None else f"{row['acceptance']:.3f}"
                rows.append(
                    [
                        SUITES[suite],
                        report["dtype"],
                        f"{heat:g}",
                        name,
                        str(row["sampler"] or "-"),
                        drafts,
                        accepted,
                        *over,
                    ]
                )
    if not rows:
        return []
    head = [
        "",
        "precision",
        "T",
        "drafter",
        "sampler",
        "drafts",
        "acceptance",
        "over plain",
        "over unpruned",
        "over assisted",
    ]
    advice = [
        f"- {SUITES[suite]}, {report['dtype']}, T = {choice['temperature']:g}: {choice['reason']}"
        for suite, report in _reports()
        for choice in report["verdict"] or ()
    ]
    prices = [f"- {SUITES[suite]}, {report['dtype']}: {_prices(report)}" for suite, report in _reports()]
    return [
        table(head, rows),
        "Prices in the same runs:\n\n" + "\n".join(prices),
        "What to use:\n\n" + "\n".join(advice),
    ]


def _prices(report: Mapping[str, Any]) -> str:
    """What forwards cost in the same run, in words."""
    costs = report["costs"]
    known = {item["n"]: item["median"] for item in costs["t_n"]}
    growth = " / ".join(f"{known[n] / costs['t']:.2f}" for n in (2, 4, 8) if n in known)
    return (
        f"a target forward takes {1e3 * costs['t']:.0f} ms, one of 2 / 4 / 8 tokens {growth} times that, a draft "
        f"{costs['c_full']:.2f} unpruned and {costs['c']:.2f} pruned"
    )


def _ratio(row: Mapping[str, Any], name: str) -> str:
    if row.get(name) is None or row.get(f"{name}_low") is None:
        return "-"
    return ratio({"median": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]})


def _curve() -> list[str]:
    found = load("curve")
    if found is None:
        return []
    said = []
    for text in dict.fromkeys(row["text"] for row in found["rows"]):
        own = [row for row in found["rows"] if row["text"] == text and row["temperature"] == 1]
        full = next(row for row in own if row["method"] == "full")
        kept = sorted({row["kept"] for row in own} - {full["kept"]}, reverse=True)
        rows = [_size([row for row in own if row["kept"] == size]) for size in kept]
        head = [
            "kept",
            "oracle",
            "tli",
            "rdk over tli",
            "tail, training-free",
            "tail, trained",
            "to unpruned",
            "healed",
            "head",
        ]
        name = SUITES.get(text, "held-out text of the corpus")
        said += [f"### Vocabulary: {name}", CURVE.format(full=_number(full)), table(head, rows)]
    return said


def _size(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    own = {row["method"]: row for row in rows}
    free = [row for name, row in own.items() if name.startswith("tail_free")]
    best = max(free, key=lambda row: row["tokens_per_second"]) if free else None
    trained, healed = own.get("tail_trained"), own.get("tail_distilled")
    return [
        f"{100 * rows[0]['kept_share']:.0f} %", _number(own["oracle"]), _number(own["tli"]), _gain(own["rdk"], "over_tli"),
        _number(best), _number(trained), _gain(trained, "over_full"), _number(healed),
        "-" if trained is None else f"{100 * trained['head_share']:.0f} %",
    ]  # fmt: skip


def _number(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{row['acceptance']:.3f}"


def _gain(row: Mapping[str, Any] | None, name: str) -> str:
    if row is None or name not in row:
        return "-"
    found = row[name]
    interval = "" if found["low"] is None else f" ({found['low']:+.3f} to {found['high']:+.3f})"
    return f"{found['gain']:+.3f}{interval}"


def _policies() -> list[str]:
    found = load("train_disco")
    if found is None:
        return []
    names = list(found["replayed"][0]["gain_over_static"])
    rows = []
    for item in found["replayed"]:
        gains = (_percent(*item["gain_over_static"][name]) for name in names)
        rows.append([SUITES.get(item["suite"], item["suite"]), f"{item['temperature']:g}", *gains])
    return [
        "### When to stop drafting",
        "Trained on GSM8K; speed over the best constant draft length.",
        table(["", "T", *names], rows),
    ]


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _outputs() -> list[str]:
    rows = []
    for name, said in SUITES.items():
        identity, nll = load(f"identity_{name}"), load(f"nll_{name}")
        if identity is None and nll is None:
            continue
        equal, worst = "-", "-"
        if identity is not None:
            total = identity["total"]
            equal = f"{total['identical']:,} of {sum(total.values()):,}, {total['tie']} ties"
        if nll is not None:
            scores = [abs(row[z]) for row in nll["rows"] for z in ("z_entropy", "z_plain") if row[z] is not None]
            worst = f"{max(scores):.1f} of {len(scores)} (limit {nll['limit']})"
        rows.append([said, equal, worst])
    if not rows:
        return []
    head = ["", "T = 0: outputs equal to plain greedy decoding's, all samplers", "T = 1: largest z of the likelihood"]
    return ["### Losslessness", table(head, rows)]
