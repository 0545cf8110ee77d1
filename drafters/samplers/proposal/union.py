"""The union of both vocabularies: the naive baseline of heterogeneous speculative sampling.

Timor et al. 2025 (arXiv 2502.05202), algorithm 1: the drafter's law is used as it is, and a token that the target does not
have is rejected. Its acceptance, sum of min(p, q) over the intersection, is never above that of the renormalised law (tli).
"""

from __future__ import annotations

from drafters.samplers.many_to_one import Relabelling
from drafters.vocab.alignment import VocabMap


class Union(Relabelling):
    """Lift along a vocabulary map; what is drawn outside it is a miss."""

    def __init__(self, vocab: VocabMap):
        super().__init__("union", vocab.to_target, vocab.to_drafter.shape[0])
