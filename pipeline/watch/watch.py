"""``python -m pipeline watch [prompt=TEXT race=true ...] [pair=... key=value ...]``: an answer as it is written, and by whom.

Exit status: 0 done, 130 interrupted, which still prints the summary.
"""

from __future__ import annotations

import sys

from rich.console import Console

from eval.command_line import describe_options
from eval.run.greedy_check import GreedyCheck
from pipeline.config import hydra_config
from pipeline.config.revisions import pin
from pipeline.runner.cpu_threads import Threads
from pipeline.runner.discovery import load_stage
from pipeline.runner.library_warnings import show_library_warnings
from pipeline.runner.stage import say
from pipeline.watch.lane import turns
from pipeline.watch.opened import NO_PACKAGE, Watched, opened, package_of
from pipeline.watch.options import WatchOptions, asks_for_a_package, read_words
from pipeline.watch.said import equality, judged, outcome
from pipeline.watch.screen import redraws, said_in_pipe, show

USAGE = "usage: make watch ARGS=\"pair=NAME prompt='...' race=true\"; any setting of the pair and its package, and:"


def main(words: list[str]) -> int:
    """Stream one answer; returns the exit status. Raises DraftersError for words and models that will not do."""
    if "--help" in words or "help" in words:
        print("\n".join([USAGE, *describe_options(WatchOptions)]))
        return 0
    options, others = read_words(words)
    aside = Console(stderr=True, soft_wrap=True)  # what is no part of the answer
    show_library_warnings(aside)
    cfg = hydra_config.load(["stage=package", *others])
    hydra_config.check(cfg)
    pin(cfg, aside)
    folder = options.package or package_of(cfg, asks_for_a_package(others), aside)
    Threads(cfg, aside).use(load_stage("eval")[0])
    watched = opened(cfg, options, folder)
    where = "without a package" if folder == NO_PACKAGE else f"package {folder}"
    return watch(watched, options, Console(soft_wrap=not sys.stdout.isatty()), f"{cfg.pair.name}, {where}")


def shortened(prompt: str, most: int = 2000) -> str:
    """Leave the middle of a long prompt out: its end is what the answer goes on from."""
    half = most // 2
    return (
        prompt if len(prompt) <= most else f"{prompt[:half]}\n[{len(prompt) - 2 * half:,} characters]\n{prompt[-half:]}"
    )


def watch(watched: Watched, options: WatchOptions, console: Console, where: str) -> int:
    """Show an opened call and its summary; returns the exit status."""
    heat = f"T = {options.temperature:g}"
    say(console, "\n".join([f"{where}; {heat}, {watched.call.pair.device}", *watched.notes]))
    console.print(shortened(watched.prompt), style="dim", markup=False, highlight=False)
    lanes = watched.lanes(options.race)
    ended = show(console, lanes, turns(lanes), options.marks)
    if not redraws(console):
        say(console, "\n".join(["", *(line for lane in lanes for line in said_in_pipe(lane, options.marks))]))
    if options.race:
        drafting, plain = lanes
        check = GreedyCheck(watched.models.target) if options.sampling.greedy else None
        verdict = None if check is None else judged(check, watched.ids, drafting, plain)
        say(console, f"{outcome(drafting, plain)}; {equality(drafting, plain, watched.coupled, verdict)}")
    if not ended:
        say(console, "interrupted: this is what there was")
    return 0 if ended else 130
