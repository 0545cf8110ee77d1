"""A recommendation in words: for the model card, for ``make inspect``, and for the commands that exports print."""

from drafters.package.recommendation.choices import Choice, Rated, Recommendation, Use
from drafters.package.recommendation.uses import drafts_trees
from drafters.probs import Sampling

HEAD = "| T | sampler | drafter | drafts per round | speed-up (95 %) | by the cost model | prompts |\n|---|---|---|---|---|---|---|"


def law(choice: Choice) -> str:
    """What a choice is for, e.g. "T = 0.7, top_k = 50"."""
    filters = (
        f"top_k = {choice.top_k}" if choice.top_k else "",
        f"top_p = {choice.top_p:g}" if choice.top_p < 1 else "",
    )
    return ", ".join([f"T = {choice.temperature:g}", *filter(None, filters)])


def sampler(use: Use) -> str:
    """A sampler with its options, e.g. "race_tree (branching=tunstall, nodes=15)"."""
    options = ", ".join(f"{name}={value}" for name, value in use.options.items() if value is not None)
    return f"{use.sampler} ({options})" if options else str(use.sampler)


def rounds(use: Use) -> str:
    """How long drafts are, e.g. "5" for static, or "svip, up to 20"."""
    if use.stop == "static":
        return str(use.length)
    return f"{use.stop}, up to {use.length}" if use.length is not None else str(use.stop)


def way(use: Use) -> str:
    """A way to decode in one phrase."""
    return "plain decoding" if use.plain else f"{sampler(use)}, {use.form} drafter, {rounds(use)} per round"


def gain(rated: Rated) -> str:
    """A speed-up with its interval, and in words what the interval leaves open."""
    speedup = rated.speedup
    shown = f"{speedup.ratio:.2f} ({speedup.low:.2f}-{speedup.high:.2f})"
    notes = ["not measured"] if rated.by == "model" else []
    if speedup.low <= 1 <= speedup.high:
        notes.append("no difference shown")
    return ", ".join([shown, *notes])


def conditions(found: Recommendation) -> str:
    """Where the figures hold."""
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    return f"on {found.device} in {found.dtype} with {threads}, prompts of {found.suite}"


def section(found: Recommendation) -> str:
    """The card's section: a table of the choices, and the reason of each."""
    plain = [choice for choice in found.choices if choice.use.plain]
    if len(plain) == len(found.choices):
        verdict = "Nothing beat plain decoding there: `drafters.generate` decodes plainly unless it is given a sampler."
    else:
        verdict = "`drafters.generate` decodes so on such a device unless it is told otherwise."
    rows = "\n".join(_row(choice) for choice in found.choices)
    reasons = "\n".join(f"- {law(choice)}: {choice.reason}" for choice in found.choices)
    return (
        f"## What to use\n\nMeasured {conditions(found)}, one request at a time. {verdict}\n\n{HEAD}\n{rows}\n\n{reasons}\n\n"
        "Speed-up: tokens per second over plain decoding, on prompts that the choice had not seen. Other hardware, batches "
        "and text give other figures: measure with yours. All of it, with the next best ways: `recommended.json`."
    )


def summary(found: Recommendation) -> tuple[str, str]:
    """Two lines: where it was measured, and what to use."""
    best = "; ".join(
        f"{law(choice)}: {way(choice.use)}" + ("" if choice.use.plain else f", {gain(choice)} x")
        for choice in found.choices
    )
    return f"for this package with {found.target.id}, {conditions(found)}", best


def served_length(found: Recommendation, form: str, sampling: Sampling) -> int | None:
    """Tokens to draft per round for an engine that drafts chains of one length with a form of the drafter.

    That of the best such way for this law on whatever device was measured; None where none was.
    """
    choice = found.choice(found.device, sampling)
    for rated in () if choice is None else choice.ranked:
        use = rated.use
        if use.form == form and use.stop == "static" and use.sampler is not None and not drafts_trees(use.sampler):
            return use.length
    return None


def _row(choice: Choice) -> str:
    temperature = law(choice).removeprefix("T = ")
    if choice.use.plain:
        return f"| {temperature} | (plain decoding) | - | - | 1.00 | - | {choice.prompts} |"
    cells = (sampler(choice.use), choice.use.form, rounds(choice.use), gain(choice), f"{choice.predicted:.2f}")
    return f"| {temperature} | {' | '.join(map(str, cells))} | {choice.prompts} |"
