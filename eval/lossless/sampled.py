"""Powered statistics: the production engine under production coins against the target's own law, across rounds.

Tables that forget what was before a block of three tokens make one request a long row of independent triples, most of
them spread over two or more rounds. The number of triples follows from the bias that must not be missed (see
eval.stats.chi_square), the pooling rule reads the law only, and the seed is no choice: a correct sampler fails one test with
probability ALPHA.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import applies, build
from drafters.samplers.draft import Sampler, StringProposal
from drafters.stop.policies.static import Static
from eval.lossless.exact.exact_law import reference_law
from eval.lossless.toys.toy_pairs import BLOCK, Blocks, blocks, moved, random_prior, small, worded_blocks
from eval.stats.chi_square import ALPHA, POWER, detectable, p_value, samples_needed

SAMPLING = Sampling(0.9)
TRIPLES = 28  # of one request
ROWS = 1056  # requests in one batch
BIAS = 0.02  # total variation of the joint law of three tokens that must not be missed


@dataclass(frozen=True)
class Evidence:
    """What the samples of one sampler say."""

    n: int  # triples
    detectable_tv: float
    power: float
    p_values: dict[str, float]  # by test

    @property
    def passed(self) -> bool:
        """No test rejects."""
        return min(self.p_values.values()) >= ALPHA


def subject(name: str) -> tuple[Blocks, Sampler]:
    """The most awkward pair that the catalog's sampler takes: texts, then a pruned drafter, then the whole vocabulary."""
    worded = worded_blocks(30)
    for candidate in (worded, blocks([0, 2, 3], 72), blocks([0, 1, 2, 3], 70)):
        pair, prior = candidate.pair, random_prior(candidate.pair.vocab, seed=6)
        if not applies(name, pair.vocab, texts=pair.texts, affinity=prior, tail=True):
            continue
        sampler = build(name, pair.vocab, texts=pair.texts, affinity=prior, tail=True)
        whole = not isinstance(sampler.proposal, StringProposal) and sampler.token_proposal.total
        if candidate is worded and whole:
            continue  # it would not look at the texts
        return candidate, small(sampler, (2, 1))
    raise ValueError(f"sampler {name!r} takes none of the gate's pairs; add one to eval/lossless/sampled.py.")


def draw(
    chosen: Blocks,
    sampler: Sampler,
    triples: int,
    sampling: Sampling = SAMPLING,
    coins: Callable[[int, Tensor], KeyedCoins] = KeyedCoins,
    rows: int = ROWS,
    depth: int = 4,
) -> Tensor:
    """At least `triples` independent triples in the order they were written: int64 (requests, TRIPLES, BLOCK)."""
    limits = Limits(BLOCK * TRIPLES, sampling)
    pair, out = chosen.pair, []
    for batch in range(-(-triples // (rows * TRIPLES))):
        requests = torch.arange(batch * rows, (batch + 1) * rows, device=pair.device)
        prompts = [torch.tensor(chosen.prompt)] * rows
        decoded = speculative(pair, sampler, Static(depth), prompts, coins(0, requests), limits)
        out.append(torch.stack(decoded.tokens).reshape(rows, TRIPLES, BLOCK))
    return torch.cat(out)


def joint_law(chosen: Blocks, sampling: Sampling = SAMPLING) -> np.ndarray:
    """The target's law of a triple: (V, V, V)."""
    law = np.zeros((chosen.vocabulary,) * BLOCK)
    for tokens, weight in reference_law(chosen.pair, chosen.prompt, Limits(BLOCK, sampling)).items():
        law[tokens] = weight
    return law


def tests(sequences: Tensor, law: np.ndarray) -> dict[str, float]:
    """p-values of the joint law of three tokens, and of pairs 1, 2 and 3 apart across the triples' border.

    Pairs are taken from two successive triples, each triple in one pair: they are independent samples, and under the
    target's law their two tokens are independent.
    """
    found = {"three tokens": p_value(_count(sequences.reshape(-1, BLOCK), law.shape), law.ravel())}
    before, after = sequences[:, 0::2], sequences[:, 1::2]
    first = law.sum((1, 2))
    for lag, earlier in ((1, law.sum((0, 1))), (2, law.sum((0, 2))), (3, first)):
        pairs = torch.stack([before[..., BLOCK - lag], after[..., 0]], -1).reshape(-1, 2)
        found[f"lag {lag}"] = p_value(_count(pairs, law.shape[:2]), np.outer(earlier, first).ravel())
    return found


def _count(tuples: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    cells = np.ravel_multi_index(tuple(tuples.cpu().numpy().T), shape)
    return np.bincount(cells, minlength=int(np.prod(shape)))


def evidence(name: str, device: str = "cpu") -> Evidence:
    """All tests of one sampler of the catalog, on `device`."""
    chosen, sampler = subject(name)
    if device != "cpu":
        place = torch.device(device)
        chosen = Blocks(moved(chosen.pair, place), chosen.prompt)
        prior = random_prior(chosen.pair.vocab, seed=6)
        sampler = small(build(name, chosen.pair.vocab, texts=chosen.pair.texts, affinity=prior, tail=True), (2, 1))
    law = joint_law(subject(name)[0])
    sequences = draw(chosen, sampler, samples_needed(law.size, BIAS))
    n = sequences.shape[0] * TRIPLES
    return Evidence(n, detectable(n, law.size), POWER, tests(sequences, law))
