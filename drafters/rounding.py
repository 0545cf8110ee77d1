"""How far two evaluations of one formula may lie apart because floating point sums depend on their order.

A product of matrices is summed in an order that its kernel chooses by the shape, the number of threads, the processor and even the
address of its operands in memory (weights mapped from a file lie at any multiple of 8 bytes, allocated ones at multiples of 64).
So equal bits are promised for integers, for copies and for the same tensors in the same process; everything else is compared
within these bounds. Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 3.1 and 3.5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def gamma(terms: int, dtype: torch.dtype) -> float:
    """Largest relative error of a sum of ``terms`` products in any order: n u / (1 - n u), u the unit roundoff of ``dtype``.

    It is relative to the sum of the products' absolute values (Higham, 3.5), with or without fused multiply-add. Half precision
    is summed in fp32 and rounded once, as oneDNN and cuBLAS do. Raises ValueError where n u reaches 1.
    """
    wide = torch.promote_types(dtype, torch.float32)
    unit = torch.finfo(wide).eps / 2
    if terms * unit >= 1:
        raise ValueError(f"gamma: expected fewer than {int(1 / unit):,} terms of {wide}, got {terms:,}")
    once = 0.0 if dtype == wide else torch.finfo(dtype).eps / 2
    return terms * unit / (1 - terms * unit) + once


def product_bound(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """How far two evaluations of ``left @ right.T + bias`` may lie apart: fp64 (..., m) of (..., n), (m, n) and (m,).

    Twice gamma of n + 1 terms (the bias is one), times what the absolute values add up to.
    """
    total = left.detach().double().abs() @ right.detach().double().abs().T
    total = total if bias is None else total + bias.detach().double().abs()
    return 2 * gamma(right.shape[-1] + 1, left.dtype) * total


def logits_bound(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """How far the logits of two evaluations of ``model`` may lie apart on ``ids``, int64 (B, n): fp64 (B, n, D or V).

    No worst case of a whole network is of use: it grows by the condition number of every step. This is the first-order one of a
    chain in which no step amplifies a relative error: each of the model's P products (every linear map and two per attention)
    errs by at most gamma of its longest sum, and the head maps what adds up to |logit error| <= |h| |w| P gamma, norms of the
    hidden state and of the head's row; twice, as both evaluations err. Worst cases of P and n are added where errors add up like
    their square roots: tests hold every supported family to a tenth of it. What follows the head (soft cap, scale) is taken not
    to amplify.
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
    return 2 * products * gamma(terms, weight.dtype) * lengths


def _size(model: PreTrainedModel, tokens: int) -> tuple[int, int]:
    """Products of one forward, and the length of the longest sum among them."""
    tables = {id(model.get_output_embeddings())}
    tables |= {id(module) for module in model.modules() if isinstance(module, nn.Embedding)}
    maps = [
        weight
        for module in model.modules()
        if id(module) not in tables and isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim == 2
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
