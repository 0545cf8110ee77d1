"""What transformers itself offers for the same models: generate, assisted generation, and assistants of another tokenizer.

It tells neither acceptance nor forwards, so the models' own calls are counted from outside. Speed is never compared without a test
of whether a peer's sampling has the target's distribution: a sampler that may bend it can always be made faster.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from drafters.engine.decode import Decoded
from drafters.engine.limits import Limits
from drafters.models.pair import ModelPair
from drafters.probs import Sampling, warp
from drafters.rng.coins import Coins
from eval.bench.output import Figures
from eval.run.configurations import Contender
from eval.run.records import TRANSFORMERS, UNPRUNED, Configuration
from eval.stats.chi_square import ALPHA, detectable, p_value

GENERATE, ASSISTED, DYNAMIC, FOREIGN = "generate", "assisted", "assisted_dynamic", "assisted_foreign"
ROWS = (GENERATE, ASSISTED, DYNAMIC)  # that an evaluation can measure beside its own
TOP_K, TOKENS = 8, 2  # of the distribution that the gate tests: TOP_K^TOKENS outcomes
NOISE = 0.05  # standard deviation added to the drafter's head, so that it is no copy of its target


@dataclass(frozen=True)
class Peer:
    """One way to call `target.generate`."""

    name: str
    target: PreTrainedModel
    drafter: PreTrainedModel | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # of generate

    @torch.inference_mode()
    def run(self, ids: Tensor, temperature: float, new_tokens: int) -> Tensor:
        """Continue a prompt int64 (n,): new tokens int64 (m,). An EOS ends it where the target's generation config has one."""
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} | dict(self.options)
        else:
            sampling |= {key: value for key, value in self.options.items() if key != "top_k"}
        if self.drafter is not None:
            sampling["assistant_model"] = self.drafter
        out = self.target.generate(
            ids.unsqueeze(0),
            attention_mask=torch.ones_like(ids).unsqueeze(0),
            max_new_tokens=new_tokens,
            pad_token_id=0,
            **sampling,
        )
        return out[0, len(ids) :]


@dataclass(frozen=True)
class Counts:
    """Forwards of one run, the prompt's first ones included."""

    tokens: int
    target_forwards: int
    drafter_forwards: int

    @property
    def accepted(self) -> int:
        """Drafted tokens in the output: all but the one that each target forward gives itself."""
        return max(self.tokens - self.target_forwards, 0)


def same_tokenizer(target: PreTrainedModel, drafter: PreTrainedModel, length: int) -> list[Peer]:
    """generate, assisted generation with a constant draft `length`, and with the library's own defaults (20, threshold 0.4)."""
    constant, default = _assistant(drafter), _assistant(drafter)
    constant.generation_config.update(
        num_assistant_tokens=length, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0
    )
    return [Peer(GENERATE, target), Peer(ASSISTED, target, constant), Peer(DYNAMIC, target, default)]


def foreign_tokenizer(
    target: PreTrainedModel,
    drafter: PreTrainedModel,
    target_tokenizer: PreTrainedTokenizerBase,
    drafter_tokenizer: PreTrainedTokenizerBase,
    length: int,
) -> Peer:
    """Its assistants of another tokenizer: texts handed over at temperature 0, tokens of both vocabularies above."""
    own = copy.deepcopy(drafter)  # it is pruned and wrapped in place by generate
    own.generation_config.update(
        num_assistant_tokens=length, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0
    )
    # Copies: what it makes of a drafter is remembered under its tokenizers, and would be taken for any other drafter's.
    tokenizers = {"tokenizer": copy.deepcopy(target_tokenizer), "assistant_tokenizer": copy.deepcopy(drafter_tokenizer)}
    return Peer(FOREIGN, target, own, tokenizers)


def counted(peer: Peer, ids: Tensor, temperature: float, new_tokens: int) -> Counts:
    """Run once and count the models' calls."""
    return _run(peer, ids, temperature, new_tokens)[1]


def _run(peer: Peer, ids: Tensor, temperature: float, new_tokens: int) -> tuple[Tensor, Counts]:
    with _calls(peer.target) as target, _calls(peer.drafter) as drafter:
        out = peer.run(ids, temperature, new_tokens)
    return out, Counts(len(out), target(), drafter())


def contenders(
    target: PreTrainedModel, drafter: PreTrainedModel, names: Sequence[str], lengths: Mapping[float, int]
) -> list[Contender]:
    """Rows of an evaluation that call `target.generate` in one of the ways ROWS, with the unpruned drafter.

    `lengths`: temperature -> drafts a round of ASSISTED; DYNAMIC keeps the library's defaults.
    """
    found = []
    for temperature, length in lengths.items():
        for peer in same_tokenizer(target, drafter, length):
            if peer.name not in names:
                continue
            stop = {ASSISTED: f"static {length}", DYNAMIC: "dynamic"}.get(peer.name)
            own = (None, None) if peer.drafter is None else (UNPRUNED, drafter.config.vocab_size)
            key = Configuration(own[0], None, TRANSFORMERS, stop, temperature, own[1], peer.name)
            found.append(Contender(key, partial(_decode, peer)))
    return found


def _decode(peer: Peer, prompts: Sequence[Tensor], _: Coins, limits: Limits) -> Decoded:
    """A peer's continuation of one prompt; what it verified of its drafts it does not tell: 0, and no rounds."""
    sampling = limits.sampling
    if not sampling.greedy:
        torch.manual_seed(len(prompts[0]))  # it draws from torch's own numbers, and repeats shall repeat
        if sampling.top_k or sampling.top_p < 1:
            peer = dataclasses.replace(peer, options={**peer.options, "top_k": sampling.top_k, "top_p": sampling.top_p})
    out, counts = _run(peer, prompts[0], sampling.temperature, limits.max_new_tokens)
    accepted, verified, drafted, forwards = (
        torch.tensor([n]) for n in (counts.accepted, 0, counts.drafter_forwards, counts.target_forwards)
    )
    return Decoded([out], accepted, verified, drafted, forwards, rounds=[[]])


def _assistant(drafter: PreTrainedModel) -> PreTrainedModel:
    """The same weights under a generation config of its own."""
    other = copy.copy(drafter)
    other.generation_config = copy.deepcopy(drafter.generation_config)
    return other


@contextmanager
def _calls(model: nn.Module | None) -> Iterator[Callable[[], int]]:
    count = 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    handle = None if model is None else model.register_forward_pre_hook(note)
    try:
        yield lambda: count
    finally:
        if handle is not None:
            handle.remove()


def gate(pair: ModelPair, foreign: ModelPair, samples: int, length: int, seed: int = 0) -> dict[str, Figures]:
    """Test each peer's sampling by Pearson's test of its first two tokens.

    Peer -> p-value, whether it passes at ALPHA, and the total variation that so many samples cannot miss.

    Both small drafters of the embedded pair are used: the one as a target, the other, or a noisy copy, as its assistant.
    Global random numbers are seeded, as generate draws from them.
    """
    target = pair.drafter
    tokenizers = foreign.target_tokenizer, foreign.drafter_tokenizer
    peers = [item for item in same_tokenizer(target, _noisy(target, seed), length) if item.name != GENERATE]
    peers.append(foreign_tokenizer(target, foreign.drafter, *tokenizers, length))
    prompt = torch.tensor(pair.target_tokenizer.encode("def main(self):\n    return"))
    return {peer.name: _tested(peer, prompt, samples, seed) for peer in peers}


def _tested(peer: Peer, prompt: Tensor, samples: int, seed: int) -> Figures:
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
