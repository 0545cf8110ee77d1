"""What is proved."""

from __future__ import annotations

from docs.generator.markdown import table
from docs.generator.results.files import load


def samplers() -> str:
    """One row per sampler of the certificate."""
    found = load("certificate.json")
    rows = [
        [
            name,
            item["status"],
            item["cells"],
            "-" if item["exact_error"] is None else f"{item['exact_error']:.0e}",
            f"{item['mutants_killed']} of {item['mutants']}",
        ]
        for name, item in found["samplers"].items()
    ]
    bugs = {item["bug"] for item in found["matrix"]}
    one = next(iter(found["samplers"].values()))
    said = (
        f"{len(bugs)} planted bugs, {len(found['matrix'])} pairs of a bug and a test that can see it, all found. Samples: {one['n']:,} per "
        f"sampler, which show a total variation of {one['detectable_tv']:.2f} with power {one['power']}."
    )
    return f"{said}\n\n{table(['sampler', 'proof', 'combinations', 'largest error', 'planted bugs found'], rows)}"


def outputs() -> str:
    """What outputs of real models said."""
    identity, nll, race = load("identity.json"), load("nll.json"), load("race_identity.json")
    total = identity["total"]
    worst = max(abs(row["z_plain"]) for row in nll["rows"] if row["z_plain"] is not None)
    rows = [
        [
            "T = 0: outputs equal to plain greedy decoding's",
            f"{total['identical']:,} of {sum(total.values()):,}, {total['tie']} ties",
            "identity.json",
        ],
        [
            "T = 1: largest z-score of the likelihood against plain sampling",
            f"{worst:.1f} (limit {nll['limit']})",
            "nll.json",
        ],
        [
            "races: outputs that part from plain race decoding",
            f"{sum(row['parted'] for row in race['rows'])} of {sum(row['outputs'] for row in race['rows'])}",
            "race_identity.json",
        ],
    ]
    return table(["real models", "", "file"], rows)
