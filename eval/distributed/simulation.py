"""`python -m eval.distributed.simulation`: distributed speculative inference in virtual time, against the paper's table and formulas."""

from __future__ import annotations

import argparse
from pathlib import Path

from eval.distributed.paper_table import LOOKAHEADS, MOST_SERVERS, ROWS, TOKENS
from eval.distributed.simulation_report import compare, draw_heatmap, print_rows

NOTE = f"""\
paper: Timor et al. 2024 (arXiv 2405.14105), table 1. Its SI loses a target forward at every rejection and is averaged
over lookaheads. ideal: ours, SI and DSI both at their best k of {", ".join(map(str, LOOKAHEADS))} and both counting the target's own token.
DSI uses SP target devices and one for the drafter, SI one of each: per device it is DSI that loses.
"""


def main(arguments: list[str] | None = None) -> None:
    """Print the table, write the heatmap."""
    parser = argparse.ArgumentParser(prog="python -m eval.distributed.simulation", description=__doc__)
    parser.add_argument("--repeats", type=int, default=200, help="requests per configuration (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/dsi"), help="folder for heatmap.png (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.repeats < 2:
        parser.error(f"--repeats {options.repeats}: expected at least 2, one request has no standard error")
    print(f"{options.repeats} requests of {TOKENS} tokens per configuration, at most {MOST_SERVERS} target servers\n")
    print_rows([compare(row, options.repeats) for row in ROWS], print)
    print(f"\n{NOTE}")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "heatmap.png"
    best, c, a = draw_heatmap(path)
    print(f"largest gain over the better of plain decoding and SI: {best:.2f}x, at c = {c:.2f}, a = {a:.2f}")
    print(f"heatmap: {path.resolve()}")


if __name__ == "__main__":
    main()
