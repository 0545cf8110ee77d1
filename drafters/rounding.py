"""How far two evaluations of one formula may lie apart because floating point sums depend on their order.

A product of matrices is summed in an order that its kernel chooses by the shape, the number of threads, the processor and even the
address of its operands in memory (weights mapped from a file lie at any multiple of 8 bytes, allocated ones at multiples of 64).
So equal bits are promised for integers, for copies and for the same tensors in the same process; everything else is compared
within these bounds. Sources: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 3.1 and 3.5; Higham &
Mary 2019, A new approach to probabilistic rounding error analysis, theorem 2.4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

SPREAD = 8.0  # standard deviations, see `likely`


def gamma(terms: int, dtype: torch.dtype) -> float:
    """Largest relative error of a sum of ``terms`` products in any order: n u / (1 - n u), u the unit roundoff of ``dtype``.

    It is relative to the sum of the products' absolute values (Higham, 3.5), with or without fused multiply-add. Half precision
    is summed in fp32 and rounded once, as oneDNN and cuBLAS do. Raises ValueError where n u reaches 1.
    """
    wide, unit, once = _units(dtype)
    if terms * unit >= 1:
        raise ValueError(f"gamma: expected fewer than {int(1 / unit):,} terms of {wide}, got {terms:,}")
    return terms * unit / (1 - terms * unit) + once


def likely(terms: int, dtype: torch.dtype) -> float:
    """What `gamma` becomes where roundings are independent and of mean zero: SPREAD sqrt(n) u, as errors then add up like a walk.

    One sum of n terms exceeds it with a probability below 2 n exp(-SPREAD^2 / 2), 3e-11 for 1,000 terms (Higham & Mary 2019).
    """
    _, unit, once = _units(dtype)
    return SPREAD * (math.sqrt(terms) * unit + once)


def _units(dtype: torch.dtype) -> tuple[torch.dtype, float, float]:
    """The precision that sums are kept in, its unit roundoff, and that of the result where it is stored in less."""
    wide = torch.promote_types(dtype, torch.float32)
    return wide, torch.finfo(wide).eps / 2, 0.0 if dtype == wide else torch.finfo(dtype).eps / 2


def product_bound(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """How far two evaluations of ``left @ right.T + bias`` may lie apart: fp64 (..., m) of (..., n), (m, n) and (m,).

    Twice gamma of n + 1 terms (the bias is one), times what the absolute values add up to.
    """
    total = left.detach().double().abs() @ right.detach().double().abs().T
    total = total if bias is None else total + bias.detach().double().abs()
    return 2 * gamma(right.shape[-1] + 1, left.dtype) * total


def logits_bound(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """How far the logits of two evaluations of ``model`` may lie apart on ``ids``, int64 (B, n): fp64 (B, n, D or V).

    No worst case of a whole network is of use: it grows by the condition number of every step. This is the first-order bound of a
    chain in which no step amplifies a relative error: each of the model's P products (every linear map and two per attention)
    errs by what is `likely` for its longest sum, independently of the others, so that the hidden state h is off by
    sqrt(P) likely(n) |h| and a logit by |w| times that, norms of h and of the head's row w (and |bias|); twice, as both
    evaluations err. What follows the head (soft cap, scale) is taken not to amplify. That the assumption holds with room is
    measured: tests keep models of every kind to a tenth of it, and see one swapped row far beyond it.
    """
    head = model.get_output_embeddings()
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].detach()))
    try:
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)
    finally:
        hook.remove()
    weight = head.weight.detach()
    lengths = seen[0].double().norm(dim=-1, keepdim=True) * weight.double().norm(dim=-1)  # (B, n, D)
    if getattr(head, "bias", None) is not None:
        lengths = lengths + head.bias.detach().double().abs()
    products, terms = _size(model, ids.shape[-1])
    return 2 * math.sqrt(products) * likely(terms, weight.dtype) * lengths


def _size(model: PreTrainedModel, tokens: int) -> tuple[int, int]:
    """Products of one forward, and the length of the longest sum among them."""
    tables = {id(model.get_output_embeddings())}
    tables |= {id(module) for module in model.modules() if isinstance(module, nn.Embedding)}
    maps = [
        weight
        for module in model.modules()
        if id(module) not in tables
        and isinstance(weight := getattr(module, "weight", None), Tensor)
        and weight.ndim == 2
    ]
    longest = max((max(weight.shape) for weight in maps), default=1)
    layers = model.config.get_text_config().num_hidden_layers
    return len(maps) + 2 * layers + 1, max(longest, tokens, model.get_output_embeddings().weight.shape[1])


def excess(got: Tensor, expected: Tensor, bound: Tensor | float) -> float:
    """The largest difference in units of its bound: up to 1 it is rounding. Equal infinities differ by 0; NaN is infinitely far.

    All of one shape, or a ``bound`` that broadcasts. Raises ValueError for other shapes: broadcasting would hide a lost row.
    """
    if got.shape != expected.shape:
        raise ValueError(f"excess: expected two tensors of shape {tuple(expected.shape)}, got {tuple(got.shape)}")
    got, expected = got.detach().double().cpu(), expected.detach().double().cpu()
    bound = torch.as_tensor(bound, dtype=torch.float64, device="cpu")
    share = torch.where(got == expected, 0.0, (got - expected).abs() / bound)
    return float(share.nan_to_num(nan=torch.inf, posinf=torch.inf).max()) if share.numel() else 0.0
