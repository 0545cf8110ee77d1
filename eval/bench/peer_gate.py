"""Does a peer's sampling have the target's law? Pearson's test of its first two tokens on the embedded models.

Speed is never compared without this answer: a sampler that may bend the law can always be made faster.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from drafters.models.pair import ModelPair
from drafters.probs import Sampling, warp
from eval.bench.peers import GENERATE, Peer, foreign_tokenizer, same_tokenizer
from eval.stats.chi_square import ALPHA, detectable, p_value

TOP_K, TOKENS = 8, 2  # of the law tested: TOP_K^TOKENS outcomes
NOISE = 0.05  # standard deviation added to the drafter's head, so that it is no copy of its target


def gate(pair: ModelPair, foreign: ModelPair, samples: int, length: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Peer -> p-value, whether it passes at ALPHA, and the total variation that so many samples cannot miss.

    Both small drafters of the embedded pair are used: the one as a target, the other, or a noisy copy, as its assistant.
    Global random numbers are seeded, as generate draws from them.
    """
    target = pair.drafter
    tokenizers = foreign.target_tokenizer, foreign.drafter_tokenizer
    peers = [item for item in same_tokenizer(target, _noisy(target, seed), length) if item.name != GENERATE]
    peers.append(foreign_tokenizer(target, foreign.drafter, *tokenizers, length))
    prompt = torch.tensor(pair.target_tokenizer.encode("def main(self):\n    return"))
    return {peer.name: _tested(peer, prompt, samples, seed) for peer in peers}


def _tested(peer: Peer, prompt: Tensor, samples: int, seed: int) -> dict[str, Any]:
    narrow = Peer(peer.name, peer.target, peer.drafter, {**peer.options, "top_k": TOP_K})
    torch.manual_seed(seed)
    drawn = [tuple(narrow.run(prompt, 1.0, TOKENS).tolist()) for _ in range(samples)]
    outcomes, law = joint_law(peer.target, prompt)
    strays = sum(item not in outcomes for item in drawn)
    counts = np.array([drawn.count(item) for item in outcomes], dtype=float)
    p = 0.0 if strays else p_value(counts, law)
    return {
        "samples": samples,
        "p_value": p,
        "impossible": strays,  # outcomes without probability under the target
        "detectable_tv": detectable(samples, len(law)),
        "passes": p >= ALPHA,
    }


@torch.inference_mode()
def joint_law(target: PreTrainedModel, prompt: Tensor) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """All outcomes of TOKENS sampled tokens under top-k, and their probabilities, by uncached forwards."""
    found: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(TOKENS):
        longer: dict[tuple[int, ...], float] = {}
        for tokens, weight in found.items():
            text = torch.cat([prompt, torch.tensor(tokens, dtype=torch.int64)]).unsqueeze(0)
            law = warp(target(input_ids=text, use_cache=False).logits[0, -1], Sampling(1.0, TOP_K))
            for token in law.nonzero().flatten().tolist():
                longer[*tokens, token] = weight * float(law[token])
        found = longer
    law_ = np.array(list(found.values()))
    return list(found), law_ / law_.sum()


def _noisy(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    other = copy.deepcopy(model)
    weight = other.get_input_embeddings().weight  # tied to the head
    weight.data.add_(NOISE * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return other


def verdicts(found: dict[str, dict[str, Any]], names: Sequence[str]) -> dict[str, bool | None]:
    """Name -> whether its sampling passed, None where it samples as plain generate does."""
    return {name: found[name]["passes"] if name in found else None for name in names}
