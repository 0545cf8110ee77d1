"""The highest acceptance that any lossless verifier can reach with given drafts, exactly, for vocabularies of any size.

Optimal transport between the target's law and the law of the drafts has a 0/1 dual (Hu et al. 2025, arXiv 2502.18779):
    optimum = 1 + min over sets H of tokens of P(H) - Q(H),    Q(H) = Pr(every draft lies in H),
and for drafts with and without replacement a best H is a prefix of the tokens ordered by p/q. All in fp64: in fp32 the
prefix sums of 150,000 tokens are wrong in the fifth digit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from eval.acceptance.without_replacement import all_inside

SUM_TOLERANCE = 1e-4  # fp32 laws over 150,000 tokens are off by about 1e-5; anything more is not a law
SMALLEST = 1e-300  # less counts as zero: its inverse would overflow
CHUNK = 1 << 22  # numbers per temporary array: 32 MB of fp64


def optimal_acceptance(p: Tensor, q: Tensor, num_drafts: int, scheme: str) -> Tensor:
    """Probability that the emitted token is one of the drafts, under the best lossless verifier for this draft law.

    Args:
        p: target's law (..., V), fp32 or fp64.
        q: drafter's law (..., V).
        num_drafts: drafts at one position. Without replacement and greedy draft fewer where q has fewer tokens.
        scheme: ``with_replacement``: i.i.d. from q. ``without_replacement``: successive draws from q without what was
            drawn. ``greedy``: the num_drafts - 1 most likely tokens, lowest id first among equals, and one draw from
            the rest of q.

    Returns:
        float64 (...,) on p's device. O(V log V); without replacement of 3 and more O(V * num_drafts), on the CPU.

    Raises:
        ValueError: shapes differ, p or q is no law, num_drafts < 1, or an unknown scheme.
    """
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(_SCHEMES)}, got {scheme!r}")
    check_drafts(num_drafts)
    solve = _SCHEMES[scheme]
    return by_rows(lambda a, b: solve(a, b, num_drafts), *law_pair(p, q))


def race_acceptance(p: Tensor, q: Tensor) -> Tensor:
    """Probability that the exponential race of q and that of p, run on the same noise, have the same winner.

    sum_i 1 / sum_j max(q_j / q_i, p_j / p_i) (Daliri et al. 2024, arXiv 2408.07978), by one sort: p_j / p_i is the
    larger exactly where p_j / q_j >= p_i / q_i.

    Args:
        p, q: laws (..., V), fp32 or fp64.

    Returns:
        float64 (...,), between (1 - TV) / (1 + TV) and 1 - TV. Raises ValueError as `optimal_acceptance` does.
    """
    return by_rows(_race, *law_pair(p, q))


def top_tokens(q: Tensor, count: int) -> Tensor:
    """Mask (..., V) of the `count` most likely tokens with q > 0; of equally likely ones the lowest ids."""
    if count == 0:
        return torch.zeros_like(q, dtype=torch.bool)
    smallest = q.topk(min(count, q.shape[-1]), dim=-1).values[..., -1:]
    above, tied = q > smallest, q == smallest
    room = count - above.sum(-1, keepdim=True)
    return (above | (tied & (tied.cumsum(-1) <= room))) & (q > 0)


def law_pair(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Both laws in fp64, normalised, on a device that has fp64. Raises ValueError: shapes differ or a row is no law."""
    if p.shape != q.shape or p.dim() == 0 or p.shape[-1] == 0:
        raise ValueError(
            f"p and q must have the same shape (..., V) with V > 0, got {tuple(p.shape)} and {tuple(q.shape)}"
        )
    return _law("p", p), _law("q", q)


def check_drafts(num_drafts: int) -> None:
    """Raises ValueError if there is not at least one draft."""
    if num_drafts < 1:
        raise ValueError(f"num_drafts must be at least 1, got {num_drafts}")


def by_rows(solve: Callable[[Tensor, Tensor], Tensor], p: Tensor, q: Tensor) -> Tensor:
    """`solve` (R, V) x2 -> (R, ...) over all rows of (..., V), a bounded number of them at a time."""
    vocabulary = p.shape[-1]
    at_once = max(1, CHUNK // vocabulary)
    blocks = zip(p.reshape(-1, vocabulary).split(at_once), q.reshape(-1, vocabulary).split(at_once), strict=True)
    parts = torch.cat([solve(a, b) for a, b in blocks])  # an input of no rows is one block of no rows
    return parts.reshape((*p.shape[:-1], *parts.shape[1:]))


def each_row(solve: Callable[[Tensor, Tensor], Tensor], p: Tensor, q: Tensor, *shape: int) -> Tensor:
    """`solve` (V,) x2 -> `shape`, for what cannot be done for many rows at once: (R, V) x2 -> (R, *shape)."""
    out = p.new_empty((len(p), *shape))
    for row in range(len(p)):
        out[row] = solve(p[row], q[row])
    return out


def _law(name: str, law: Tensor) -> Tensor:
    if law.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} must be a law in float32 or float64, got {law.dtype}: softmax the logits in float32")
    law = (law.cpu() if law.device.type == "mps" else law).double()  # mps has no fp64
    total = law.sum(-1, keepdim=True)
    bad = ~((law >= 0).all(-1) & ((total.squeeze(-1) - 1).abs() <= SUM_TOLERANCE))  # NaN is bad, too
    if bool(bad.any()):
        row = tuple(int(i) for i in bad.nonzero()[0])
        raise ValueError(
            f"{name} must be laws (no entry below 0, rows that sum to 1), but row {row} of {tuple(law.shape[:-1])} has "
            f"minimum {law[row].min().item():.3g} and sum {law[row].sum().item():.6g}: softmax logits first, and "
            "give a law with misses its missing mass as a token of its own"
        )
    return (law / total).masked_fill_(law < SMALLEST, 0.0)


def _with_replacement(p: Tensor, q: Tensor, num_drafts: int) -> Tensor:
    p, q = _by_ratio(p, q)
    return _best_prefix(prefix_mass(p), prefix_mass(q) ** num_drafts)


def _without_replacement(p: Tensor, q: Tensor, num_drafts: int) -> Tensor:
    if num_drafts == 1:
        return _with_replacement(p, q, 1)
    p, q = _by_ratio(p, q)
    if num_drafts == 2:
        return _best_prefix(prefix_mass(p), _pairs_inside(q))
    return 1.0 + each_row(lambda P, row: _least_slack(P, row, num_drafts), prefix_mass(p), q)


def _greedy(p: Tensor, q: Tensor, num_drafts: int) -> Tensor:
    top = top_tokens(q, num_drafts - 1)
    rest = q.masked_fill(top, 0.0)
    total = rest.sum(-1, keepdim=True)
    rest = rest / total.masked_fill(total == 0, 1.0)  # nothing left to draw from: the top tokens are all the drafts
    return p.masked_fill(~top, 0.0).sum(-1) + torch.minimum(p, rest).sum(-1)


def _race(p: Tensor, q: Tensor) -> Tensor:
    p, q = _by_ratio(p, q)
    earlier, later = _before(q), _after(p) + p
    shared = (p > 0) & (q > 0)  # others win at most one of the races
    return torch.where(shared, 1.0 / (earlier / q + later / p), 0.0).sum(-1)


def _by_ratio(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Both laws in the order of p/q ascending: p = 0 < q first, q = 0 last. Equal ratios may stand in any order."""
    order = torch.where(q > 0, p / q, torch.inf).argsort(dim=-1, stable=True)
    return p.gather(-1, order), q.gather(-1, order)


def prefix_mass(law: Tensor) -> Tensor:
    """Mass of each prefix (..., V). Never above 1: the num_drafts-th power would multiply the rounding error."""
    return law.cumsum(-1).clamp_(max=1.0)


def _best_prefix(P: Tensor, Q: Tensor) -> Tensor:
    return 1.0 + (P - Q).amin(-1).clamp(max=0.0)  # the empty prefix has P = Q = 0


def _pairs_inside(q: Tensor) -> Tensor:
    """Pr(two draws without replacement lie in the prefix), every prefix: (R, V) -> (R, V).

    A token x joining H adds Pr(x, then one of H) + Pr(one of H, then x). Sums of the others instead of 1 - q_x and
    increments instead of cumsum(q) * cumsum(f) - cumsum(q f): those lose all digits when one token has q near 1, the
    usual case of language models.
    """
    before = _before(q)
    others = before + _after(q)
    odds = torch.where(others > 0, q / others, 0.0)
    inside = prefix_mass(odds * before + q * _before(odds))
    single = (q > 0).sum(-1, keepdim=True) == 1  # one token only: the second draft does not exist
    return torch.where(single, prefix_mass(q), inside)


def _least_slack(P: Tensor, q: Tensor, num_drafts: int) -> Tensor:
    """min P(H) - Q(H) over the prefixes of one row (V,), any number of drafts, by quadrature."""
    supported = int((q > 0).sum())  # tokens with q = 0 come last and only add to P
    masses = P[:supported].cpu().numpy()
    least = min(0.0, masses[-1] - 1.0)  # the empty prefix and the whole support
    # without replacement drafts leave H more often than with, so P - q(H)^k is a lower bound: it tells when to stop
    bound = masses - prefix_mass(q[:supported]).cpu().numpy() ** num_drafts
    ahead = np.minimum.accumulate(bound[::-1])[::-1]
    done = 0
    for inside in all_inside(q[:supported].cpu().numpy(), num_drafts):
        least = min(least, float((masses[done : done + len(inside)] - inside).min()))
        done += len(inside)
        if done == supported or ahead[done] >= least:
            break
    return P.new_tensor(least)


def _before(values: Tensor) -> Tensor:
    """Sum of what stands before each entry (..., V), without the cancellation of cumsum - value."""
    return torch.nn.functional.pad(values[..., :-1], (1, 0)).cumsum(-1)


def _after(values: Tensor) -> Tensor:
    return _before(values.flip(-1)).flip(-1)


_SCHEMES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "with_replacement": _with_replacement,
    "without_replacement": _without_replacement,
    "greedy": _greedy,
}
