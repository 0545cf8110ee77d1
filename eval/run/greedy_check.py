"""Is a greedy output the target's own? Token for token, except where two tokens are equally likely."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from eval.run.records import DIFFERENT, IDENTICAL, TIE

GAP = 1e-5  # of fp64 logits: closer ones may come out in either order from fp32 forwards of different widths


class GreedyCheck:
    """Compares greedy outputs with plain decoding's (design contract: fp32 outputs are token-identical).

    Where they differ, both are re-scored in fp64 by one uncached forward each: a tie only if at every step of both the
    chosen token is within GAP of the largest logit. The fp64 copy of the target is made on the first difference.
    """

    def __init__(self, target: PreTrainedModel):
        self.target = target
        self._precise: PreTrainedModel | None = None

    @property
    def exact(self) -> bool:
        """Whether the target's precision is one in which identity is required."""
        return self.target.dtype in (torch.float32, torch.float64)

    def verdict(self, prompt: Tensor, expected: Tensor, got: Tensor) -> str:
        """IDENTICAL, TIE or DIFFERENT; all int64 (n,), `expected` and `got` without the prompt."""
        if torch.equal(expected.cpu(), got.cpu()):
            return IDENTICAL
        both = min(len(expected), len(got))
        if not self.exact or torch.equal(expected[:both].cpu(), got[:both].cpu()):  # one ended too early
            return DIFFERENT
        return TIE if all(self.worst_gap(prompt, tokens) < GAP for tokens in (expected, got)) else DIFFERENT

    @torch.inference_mode()
    def worst_gap(self, prompt: Tensor, tokens: Tensor) -> float:
        """Largest distance in fp64 between a step's largest logit and the logit of the token chosen there."""
        if self._precise is None:  # on the CPU: mps has no fp64, and a GPU may not have the room
            self._precise = copy.deepcopy(self.target).to(device="cpu", dtype=torch.float64)
        whole = torch.cat([prompt, tokens]).cpu()
        logits = self._precise(input_ids=whole[:-1].unsqueeze(0), use_cache=False).logits[
            0, len(prompt) - 1 :
        ]  # (n, V)
        chosen = logits.gather(-1, tokens.cpu().unsqueeze(-1)).squeeze(-1)
        return float((logits.max(-1).values - chosen).max())
