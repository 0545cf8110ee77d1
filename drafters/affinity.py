"""RDK priors: where the probability mass of kept tokens goes when the drafter's head has been pruned."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AffinityPrior:
    """Donor row i keeps ``1 - share[i]`` of its mass; ``share[i]`` goes to its neighbours. File keys are the field
    names."""

    index: Tensor  # int32 (D, K) target ids
    weight: Tensor  # fp32 (D, K), rows sum to 1
    share: Tensor  # fp32 (D,) the mixture weight e of each donor
