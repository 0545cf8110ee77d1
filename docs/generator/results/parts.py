"""What the parts of decoding cost."""

from __future__ import annotations

from docs.generator.markdown import spread, table
from docs.generator.results.files import load


def costs() -> str:
    """One row per part: rounds, caches, heads, redistribution, verification, stop decisions, counting."""
    uncompiled, costs, batch = load("bench_engine_uncompiled.json"), load("bench_costs.json"), load("bench_batch.json")
    eight, memory = batch["sizes"]["8"], batch["kv_bytes_per_token"]
    verify = load("bench_verify.json")["vocabularies"]["151936"]
    bounds, counting = load("bench_bounds.json"), load("bench_counting.json")
    together = (
        f"{eight['autoregressive']['vs_one']:.1f}x / {eight['speculative']['vs_one']:.1f}x; {eight['ceiling']:.1f}x"
    )
    rows = [
        [
            "time of a round outside of model forwards (not compiled)",
            f"{100 * uncompiled['outside_forwards']['share']:.0f} %",
        ],
        ["cost model: predicted against measured tokens/s, worst length", f"{100 * costs['worst_error']:.0f} % off"],
        ["8 requests together over one, plain / speculative; of the matrix products alone", together],
        [
            "keys and values per token: allocated / by the configuration",
            f"{memory['allocated']:,} / {memory['theory']:,} bytes",
        ],
        *_pruned_steps(),
        *_redistribution(),
        *(
            [
                f"verifying {item['nodes']} drafts at V = 151,936: {name}",
                f"{item['milliseconds']:.1f} ms, {item['per_floor']:.0f}x reading the distributions once",
            ]
            for name, item in verify.items()
            if name in ("standard", "block")
        ),
        *_stop_decisions(),
        [
            "optimum of 4 drafts with replacement / 2 without, V = 151,936",
            " / ".join(
                f"{bounds['milliseconds'][name]:.0f}" for name in ("with_replacement_4", "without_replacement_2")
            )
            + " ms",
        ],
        [
            f"counting {counting['megabytes']:.0f} MB over `encode_batch_fast` on the same threads, counts equal",
            f"{counting['ratio']:.1f}x ({counting['ratio_low']:.1f}-{counting['ratio_high']:.1f})",
        ],
        [
            "peak memory of the comparison with transformers",
            f"{load('bench_engine.json')['peak_rss_bytes'] / 1e9:.2f} GB",
        ],
    ]
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
        behind, loop = (
            spread((100 * item[name] for item in kinds), 0) for name in ("disco_step_share", "in_a_loop_share")
        )
        rows.append(
            [
                f"a trained policy's decision over a drafter forward, {drafter}: behind a forward; in a loop",
                f"{behind} %; {loop} %",
            ]
        )
    return rows
