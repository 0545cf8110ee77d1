"""The model card of a published package: what it is, how it performed, how to use it, what its licence asks.

Everything in it comes from the package's own description, the evaluation's report and recommendation and the gate's
certificate, all plain data, so the card says nothing that is not in a file beside it. The metadata block is written by
huggingface_hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from drafters.package.recommendation import advice
from drafters.package.recommendation.choices import Recommendation
from drafters.publish.licences import Licence

TAGS = ("drafters", "speculative-decoding", "draft-model", "vocabulary-pruning")
BASELINE = "(plain decoding)"


@dataclass(frozen=True)
class CardFacts:
    """What a card is made of. ``report`` is eval's report.json, ``certificate`` the gate's; None where there is none."""

    repository: str  # org/name
    description: Mapping[str, Any]  # drafters.json
    licence: Licence
    tag: str
    report: Mapping[str, Any] | None
    certificate: Mapping[str, Any] | None
    recommendation: Recommendation | None = None
    borrows: bool = False  # the package lacks what the target has


def render(facts: CardFacts) -> str:
    """Write the whole README.md of a model card: metadata in YAML, then the sections that have content."""
    sections = (_what, _use, _recommended, _serve, _results, _proof, _limits, _made)
    body = "\n\n".join(filter(None, (section(facts) for section in sections)))
    return f"---\n{metadata(facts).to_yaml()}\n---\n\n{body}\n"


def metadata(facts: CardFacts) -> ModelCardData:
    """The metadata block. ``base_model`` is the model whose weights these are; the target is a tag, not a base."""
    target, drafter = facts.description["target"], facts.description["drafter"]
    hub = {"base_model": drafter["id"], "base_model_relation": "finetune"} if _on_hub(drafter) else {}
    results = _eval_results(facts)
    return ModelCardData(
        license=facts.licence.name,
        license_name=facts.licence.own_name,
        license_link=facts.licence.link,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[*TAGS, f"target-{_tag(target)}"],
        inference=False,
        model_name=facts.repository.rpartition("/")[2] if results else None,
        eval_results=results or None,
        **hub,
    )


def _on_hub(model: Mapping[str, Any]) -> bool:
    """A Hub model has a commit of 40 hex digits, a local folder a hash of its content."""
    revision = model["revision"]
    return revision is not None and not revision.startswith("sha256:") and model["id"].count("/") == 1


def _tag(model: Mapping[str, Any]) -> str:
    name = model["id"].rpartition("/")[2] if _on_hub(model) else model["id"].replace("/", "-")
    return str(name).lower()


def _rows(report: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Rows of the package's samplers and of plain decoding."""
    rows = [] if report is None else report["rows"]
    return [row for row in rows if row["sampler"] is None or row["drafter"] == "package"]


def _best(report: Mapping[str, Any] | None, temperature: float) -> Mapping[str, Any] | None:
    rows = [row for row in _rows(report) if row["sampler"] and row["temperature"] == temperature]
    return max(rows, key=lambda row: row["tokens_per_second"] or 0, default=None)


def _eval_results(facts: CardFacts) -> list[EvalResult]:
    """Acceptance, block efficiency and speed-up of the fastest sampler at each temperature, for the model index."""
    if facts.report is None:
        return []
    suite = facts.report["prompts"]["suite"]
    names = {
        "acceptance_rate": "Acceptance rate",
        "block_efficiency": "Block efficiency (tokens per target forward)",
        "speedup_vs_autoregressive": "Speed-up over plain decoding",
    }
    results = []
    for temperature in sorted({row["temperature"] for row in facts.report["rows"]}):
        row = _best(facts.report, temperature)
        for key, name in names.items() if row else ():
            results.append(
                EvalResult(
                    task_type="text-generation",
                    dataset_type=suite,
                    dataset_name=suite,
                    metric_type=key,
                    metric_name=f"{name}, T={temperature:g}, sampler {row['sampler']}",  # type: ignore[index]
                    metric_value=round(row[key], 4),  # type: ignore[index]
                )
            )
    return results


def _what(facts: CardFacts) -> str:
    target, drafter, coverage = (facts.description[key] for key in ("target", "drafter", "coverage"))
    covered = "" if coverage is None else f" They cover {coverage:.1%} of the text that the target says."
    tokenizer = (
        "Its tokenizer is its own; a map to the target's is part of the package."
        if facts.description["foreign"]
        else "It shares the target's tokenizer."
    )
    return (
        f"# {facts.repository.rpartition('/')[2]}\n\n"
        f"A drafter for speculative decoding with **{target['id']}**, made from {drafter['id']} by keeping "
        f"{drafter['kept']:,} of the {drafter['vocabulary']:,} rows of its output head.{covered} {tokenizer} It cannot "
        "write text on its own; verified by the target, it changes the target's speed and not its output.\n\n"
        "Weights are safetensors, everything else is JSON; no code comes with it."
        + (
            " Tensors that the target has bit for bit are not in it: `borrowed.json` names them, and loading takes them "
            "from the target after comparing their hashes."
            if facts.borrows
            else ""
        )
    )


def _use(facts: CardFacts) -> str:
    recommended, generation = facts.description["recommended"], facts.description["generation"]
    how = f'sampler="{recommended["sampler"]}", stop="{recommended["stop"]}", '
    target = ", target=target" if facts.borrows else ""
    if facts.recommendation is not None:  # left open, so that what was measured decides
        how = ""
    return (
        "## Use\n\n"
        "```python\n"
        "import drafters\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'target = AutoModelForCausalLM.from_pretrained("{facts.description["target"]["id"]}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{facts.description["target"]["id"]}")\n'
        f'package = drafters.load("{facts.repository}", revision=COMMIT{target})  # 40 hex digits, see tag {facts.tag}\n'
        'ids = tokenizer("...", return_tensors="pt").input_ids\n'
        f"out = drafters.generate(target, package, ids, {how}temperature={generation['temperature']:g})\n"
        "```"
        + (
            ""
            if facts.description["foreign"]
            else "\n\nStock transformers: `target.generate(**inputs, assistant_model=package.model)`, greedy or sampled."
        )
    )


def _recommended(facts: CardFacts) -> str:
    return "" if facts.recommendation is None else advice.section(facts.recommendation)


def _serve(facts: CardFacts) -> str:
    return (
        "## Serve\n\n"
        "Engines that know nothing of a pruned head read an export made from this package in a clone of Drafters, which "
        'also prints the exact command: `make export ARGS="to=vllm"` (standalone drafter, greedy drafting), '
        "`to=sglang` and `to=speculators` (the kept ids for an EAGLE head), `to=transformers` (a plain checkpoint)."
    )


def _results(facts: CardFacts) -> str:
    if facts.report is None:
        return "## Results\n\nNot measured."
    report = facts.report
    prompts = report["prompts"]
    head = "| T | sampler | acceptance rate (95 %) | block efficiency | tokens/s | vs plain decoding |\n|---|---|---|---|---|---|\n"
    return (
        "## Results\n\n"
        + head
        + "\n".join(_line(row) for row in _rows(report))
        + f"\n\n{prompts['count']} prompts of {prompts['suite']}, up to {prompts['max_new_tokens']} new tokens, "
        f"{prompts['repeats']} repeats, one request at a time, on {report['device']} in {report['dtype']} with "
        f"{report['threads']} threads. A target forward takes {report['costs']['t'] * 1e3:.2f} ms, a drafter forward "
        f"{report['costs']['d_pruned'] * 1e3:.2f} ms. Acceptance rate: accepted / verified drafted positions. Block "
        "efficiency: tokens per target forward. Raw counts: `eval/report.json`."
    )


def _line(row: Mapping[str, Any]) -> str:
    if row["sampler"] is None:
        return f"| {row['temperature']:g} | {BASELINE} | - | 1.00 | {row['tokens_per_second']:.1f} | 1.00 |"
    rate, low, high = (row[key] for key in ("acceptance_rate", "acceptance_rate_low", "acceptance_rate_high"))
    shown = "-" if rate is None else f"{rate:.2f} ({low:.2f}-{high:.2f})"
    return (
        f"| {row['temperature']:g} | {row['sampler']} | {shown} | {row['block_efficiency']:.2f} | "
        f"{row['tokens_per_second']:.1f} | {row['speedup_vs_autoregressive']:.2f} |"
    )


def _proof(facts: CardFacts) -> str:
    if facts.certificate is None:
        return "## Losslessness\n\nNo certificate was given to the code that made this package."
    samplers = facts.certificate["samplers"]
    passed = sorted(name for name, entry in samplers.items() if entry.get("status") in ("exact", "pathwise"))
    failed = sorted(set(samplers) - set(passed))
    errors = [entry["exact_error"] for entry in samplers.values() if isinstance(entry.get("exact_error"), float)]
    worst = f" The largest difference between the output law and the target's is {max(errors):.1e}." if errors else ""
    return (
        "## Losslessness\n\n"
        f"Certified samplers, for the code of hash {facts.certificate['code'][:12]}: {', '.join(passed)}. Their "
        f"output law was enumerated from the production code and compared with the target's.{worst}"
        + (f" Not certified: {', '.join(failed)}." if failed else "")
        + " The whole certificate: `certificate.json`."
    )


def _limits(facts: CardFacts) -> str:
    drafter = facts.description["drafter"]
    least = facts.description.get("least_covered")
    domain = (
        [] if least is None else [f"Of text of the domain {least['domain']} it covers {least['coverage']:.1%} only."]
    )
    lines = [
        f"It proposes only {drafter['kept']:,} tokens; on text unlike what it was counted on, fewer of them are accepted.",
        *domain,
        "Speed-ups depend on the hardware, the batch and the text: measure with yours.",
        "The output's quality, biases and risks are the target's.",
        *facts.licence.obligations,
    ]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _made(facts: CardFacts) -> str:
    target, drafter = facts.description["target"], facts.description["drafter"]
    measured = "" if facts.report is None else f" Measured on: {facts.report['device']}."
    return (
        "## Provenance\n\n"
        f"- drafter: {drafter['id']} at {drafter['revision']}, licence {drafter['licence']}\n"
        f"- target: {target['id']} at {target['revision']}, licence {target['licence'] or 'not stated'}\n"
        "- hashes of all files: `manifest.json`; `drafters.load` checks them before it uses anything\n"
        f"- hardware and carbon: counting and pruning take minutes of one CPU.{measured}"
    )
