"""String-level rejection sampling with the one-token rule: a drafter token counts as the first target token of its text.

Timor et al. 2025 (arXiv 2502.05202), algorithm 3: accept the first target token t of the drafted text against
psi(t), the probability that a drafted text begins with t. psi must be the law of t under the rule that ends the drafted text;
with one drafter token it is psi(t) = sum of q(d) over the d whose text begins with t: exact for any two tokenizers, one table
look-up. It extends tli, which wastes every d that is no target token. The rest of d's text is discarded: the drafter is fed t.
"""

from __future__ import annotations

from torch import Tensor

from drafters.samplers.many_to_one import Relabelling


class SLRS(Relabelling):
    """`first` int64 (D,): the first target token of each drafter token's text, -1 where there is none."""

    def __init__(self, first: Tensor, vocabulary: int):
        super().__init__("slrs", first, vocabulary)
