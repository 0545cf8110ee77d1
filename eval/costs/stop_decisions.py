"""Seconds that a stop policy takes per draft: the features of the drawn token and the decision.

Again and again in a loop, it finds its code and its numbers in the caches; behind a forward, as decoding has it, the forward's weights
took their place, and the same decision takes two to three times as long.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from drafters.stop.features import describe
from drafters.stop.policy import StopPolicy
from eval.costs.timing import alternate, median, nothing

WARM_UP = 5


@torch.inference_mode()  # as decoding does
def decision_seconds(
    stop: StopPolicy,
    columns: int,
    runs: int,
    device: torch.device,
    greedy: bool = False,
    before: Callable[[], object] = nothing,
) -> float:
    """Median seconds of one decision at B = 1 with q over `columns` drafter tokens; of a policy without features, its own.

    `greedy`: with the softmax that temperature 0 needs besides its point. `should_continue` is timed as in the second draw of a
    round, the state of which is set up outside the clock. `before`: run ahead of each decision, outside the clock, e.g. a forward.
    """
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(1, columns, generator=generator)).to(device)
    law, drawn = logits.softmax(-1), torch.full((1,), 0.5, device=device)
    none, one = torch.zeros(1, dtype=torch.int64, device=device), torch.ones(1, dtype=torch.int64, device=device)
    streak = torch.zeros(1, device=device)
    stop.reset(torch.zeros(1, dtype=torch.int64))

    def decide() -> None:
        features = None
        if stop.needs_features:
            shown = logits.softmax(-1) if greedy else law
            features = describe(shown, drawn, one, (none, streak, drawn), float(not greedy))
        stop.should_continue(features, one)

    def open_round() -> None:
        stop.should_continue(None, none)
        before()

    return median(alternate({"decision": decide}, runs, device, WARM_UP, least=1, before=open_round)["decision"])
