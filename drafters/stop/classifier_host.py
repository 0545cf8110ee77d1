"""The network of a stop policy on the CPU without tensors: on a few hundred numbers numpy takes less time to start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class HostNetwork:
    """`classifier.Classifier` of layers with ReLU between them: weights (out, in) and biases (out,), fp32."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]):
        halves = [1.0] * (len(layers) - 1) + [0.5]
        self._layers = [
            ((half * weight).numpy(force=True).T.copy(), (half * bias).numpy(force=True))
            for half, (weight, bias) in zip(halves, layers, strict=True)
        ]

    def __call__(self, features: Tensor) -> Tensor:
        """The two probabilities (B, 2) of features (B, F)."""
        hidden = features.numpy()
        for weight, bias in self._layers[:-1]:
            hidden = hidden @ weight
            hidden += bias
            np.maximum(hidden, 0.0, out=hidden)
        weight, bias = self._layers[-1]  # of half the score
        scores = hidden @ weight
        scores += bias
        np.tanh(scores, out=scores)
        scores += 1.0
        scores *= 0.5  # (1 + tanh(x / 2)) / 2 is the sigmoid of x, and cannot overflow
        return torch.from_numpy(scores)
