"""The losslessness panel: what the certificate says, for which code, and what greedy outputs said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.report.html.parts import HtmlTable, Missing, Part, Section, TableCell, number, words
from eval.report.html.sections.results import PROVED
from eval.report.schema import Report
from eval.report.sources import Certificate, PlantedBug, SamplerProof

COMMAND = "make lossless"


def lossless(report: Report, certificate: Certificate | None) -> Part:
    """One line per sampler, the planted bugs, and greedy identity on real prompts."""
    title = "Losslessness"
    if certificate is None:
        return Missing("lossless", title, f"no certificate was found. {greedy(report)}", [COMMAND, "make report"])
    samplers = certificate["samplers"]
    proved = sum(entry["status"] in PROVED for entry in samplers.values())
    matrix = certificate.get("matrix") or []
    whose, other = _whose(report, certificate), report.code not in (None, certificate["code"])
    return Section(
        "lossless",
        title,
        f"{proved} of {len(samplers)} samplers are proved. Exact: the output law of the engine "
        "itself, enumerated over all coins on small laws, equals the target's. Pathwise: every output equals plain decoding's with "
        "the same coins. A proof is worth what its tests can find: the last column counts planted bugs that they found.",
        tables=[_samplers(samplers), *([_matrix(matrix)] if matrix else [])],
        notes=[*([] if other else [whose]), greedy(report)],
        warning=whose if other else "",
    )


def greedy(report: Report) -> str:
    """The sentence about outputs at temperature 0."""
    found = report.greedy_identity
    if not found.outputs:
        return "No output at temperature 0 was measured."
    return (
        f"Real prompts at T = 0: {found.identical:,} of {found.outputs:,} outputs identical to plain greedy decoding, "
        f"{found.ties:,} ties, {found.different:,} different."
    )


def _whose(report: Report, certificate: Certificate) -> str:
    code, own = certificate["code"], report.code
    where = f"certificate of code {code[:12]}, {certificate['device']}, {certificate['dtype']}"
    if own is None:
        return f"The {where}; the report does not say which code it measured."
    if own == code:
        return f"The {where}: the code that was measured here."
    return f"The {where} is NOT of the code that was measured here ({own[:12]}); run: {COMMAND}."


def _samplers(samplers: Mapping[str, SamplerProof]) -> HtmlTable:
    columns = ("sampler", "proved", "cells", "largest error", "samples", "detects TV from", "smallest p", "bugs found")
    return HtmlTable(columns, [_sampler(name, entry) for name, entry in samplers.items()])


def _sampler(name: str, entry: SamplerProof) -> Sequence[TableCell]:
    p_values = [value for value in (entry.get("p_values") or {}).values() if value is not None]
    planted, killed = entry.get("mutants"), entry.get("mutants_killed")
    passed = entry["status"] in PROVED
    failures = "; ".join(entry.get("failures") or [])
    return [
        words(name),
        words(entry["status"] if passed else "NOT PROVED", note=failures, tone="good" if passed else "bad"),
        number(entry.get("cells"), "{:,}"),
        number(entry.get("exact_error"), "{:.1e}"),
        number(entry.get("n"), "{:,}"),
        number(entry.get("detectable_tv"), "{:.3f}"),
        number(min(p_values, default=None), "{:.2g}"),
        words(None if planted is None else f"{killed} of {planted}", tone="" if killed == planted else "bad"),
    ]


def _matrix(matrix: Sequence[PlantedBug]) -> HtmlTable:
    """One line per planted bug; a test that was not made for it stays empty."""
    kinds = list(dict.fromkeys(item["test"] for item in matrix))
    bugs: dict[tuple[str, str], dict[str, bool]] = {}
    for item in matrix:
        tests = bugs.setdefault((item["source"], item["bug"]), {})
        tests[item["test"]] = (
            tests.get(item["test"], True) and item["found"]
        )  # one bug may be planted into several samplers
    rows = [
        [words(source), words(bug), *(_found(tests.get(kind)) for kind in kinds)]
        for (source, bug), tests in bugs.items()
    ]
    return HtmlTable(
        ("from", "planted bug", *kinds),
        rows,
        dense=True,
        folded=f"{len(rows)} planted bugs, and the tests that must find them",
    )


def _found(found: bool | None) -> TableCell:
    if found is None:
        return words("")
    return words("found" if found else "MISSED", tone="good" if found else "bad")
