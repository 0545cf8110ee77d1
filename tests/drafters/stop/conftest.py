"""A classifier with random or stated weights."""

from types import SimpleNamespace

import pytest
import torch

from drafters.stop.features import NAMES


@pytest.fixture
def make_trained():
    """(seed, parameters) -> a package's stop slot with a random network."""

    def make(seed=0, hidden=8, **parameters):
        generator = torch.Generator().manual_seed(seed)
        count = len(NAMES)
        tensors = {
            "mean": torch.randn(count, generator=generator), "scale": torch.rand(count, generator=generator) + 0.5,
            "layers.0.weight": torch.randn(hidden, count, generator=generator),
            "layers.0.bias": torch.randn(hidden, generator=generator),
            "layers.1.weight": torch.randn(2, hidden, generator=generator), "layers.1.bias": torch.zeros(2),
        }  # fmt: skip
        config = {
            "features": list(NAMES), "hidden": [hidden], "outputs": 2, "activation": "relu", "parameters": parameters,
        }  # fmt: skip
        return SimpleNamespace(config=config, tensors=tensors)

    return make
