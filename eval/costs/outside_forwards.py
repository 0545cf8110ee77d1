"""How much of a decode call is spent outside of the models' forwards: drafting's bookkeeping, laws, coins, verification, caches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


def outside_forwards(models: Sequence[nn.Module], act: Callable[[], object], repeats: int = 5) -> dict[str, float]:
    """CPU seconds of `act` inside and outside of the models, medians by share: {"share", "total", "forwards", "calls"}.

    CPU time, not wall time: other load on the machine does not count. The prompt's forwards are inside. For one process
    whose work is on the CPU; on a GPU forwards return before they are done.
    """
    inside, calls, begun = 0.0, 0, 0.0

    def enter(*_: Any) -> None:
        nonlocal begun
        begun = time.process_time()

    def leave(*_: Any) -> None:
        nonlocal inside, calls
        inside, calls = inside + time.process_time() - begun, calls + 1

    handles = [
        hook
        for model in models
        for hook in (model.register_forward_pre_hook(enter), model.register_forward_hook(leave))
    ]
    try:
        found = []
        for _ in range(repeats + 1):  # the first warms up
            inside, calls = 0.0, 0
            start = time.process_time()
            act()
            total = time.process_time() - start
            found.append((1.0 - inside / total, total, inside, calls))
    finally:
        for handle in handles:
            handle.remove()
    share, total, inside, calls = sorted(found[1:])[repeats // 2]
    return {"share": share, "total": total, "forwards": inside, "calls": calls, "threads": torch.get_num_threads()}
