"""The one canonical list of kept target ids, and the three dialects that readers have of it.

==========  ============  ==================================================  =====================================
dialect     tensor        meaning                                             readers
==========  ============  ==================================================  =====================================
absolute    int64 (k,)    ascending target ids                                SGLang hot tokens
offset      int64 (k,)    ``target id = i + d2t[i]``                          EAGLE-3 heads: vLLM, SGLang, speculators
mask        bool (V,)     whether a target id is kept                         the same, as ``t2d``
==========  ============  ==================================================  =====================================

Only one list is stored in a package; everything here is derived from it, so no two exports can disagree.
"""

import torch
from torch import Tensor

from drafters.package.reader import Package


def target_ids(package: Package) -> Tensor:
    """Target ids that the drafter can say, int64 (k,) ascending without repeats."""
    reached = package.vocab.to_target
    return reached[reached >= 0].unique(sorted=True)


def to_offsets(ids: Tensor) -> Tensor:
    """Absolute ids, ascending (k,), as offsets (k,)."""
    return ids - torch.arange(len(ids))


def from_offsets(offsets: Tensor) -> Tensor:
    """Offsets (k,) as absolute ids (k,)."""
    return offsets + torch.arange(len(offsets))


def to_mask(ids: Tensor, vocabulary: int) -> Tensor:
    """Absolute ids (k,) as bool (V,)."""
    return torch.zeros(vocabulary, dtype=torch.bool).index_fill_(0, ids, True)


def from_mask(mask: Tensor) -> Tensor:
    """Bool (V,) as absolute ids (k,), ascending."""
    return mask.nonzero().flatten()
