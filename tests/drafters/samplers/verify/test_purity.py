"""Verifiers are pure: the laws they are given are the laws they leave behind, in every dtype."""

import pytest
import torch

from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.catalog import CATALOG
from drafters.samplers.draft import ABSENT, Draft, DrawnLaws
from drafters.samplers.proposal.identity import Identity
from eval.lossless.sampled import subject

ROWS, V = 64, 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CATALOG)
def test_inputs_stay(name, dtype):
    verifier = subject(name)[1].verifier
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(ROWS, 3, V, generator=generator, dtype=dtype).softmax(-1)
    q = torch.rand(ROWS, V, generator=generator, dtype=dtype).softmax(-1)
    position = torch.full((ROWS,), 5)
    key = Key(position, position, "draft")
    coins = KeyedCoins(0, torch.arange(ROWS))
    laws = DrawnLaws(Identity())
    laws.open(q)
    drawn = verifier.draw(q, coins, key, 2 if verifier.tree else 1)
    tokens = torch.cat([drawn, drawn], 1)[:, :2]
    parents = torch.where(tokens >= 0, torch.tensor([-1, -1] if verifier.tree else [-1, 0]), ABSENT)
    for column in range(2):
        laws.append(q.gather(1, tokens[:, [column]].clamp(min=0)).squeeze(1))
    before = p.clone(), q.clone(), tokens.clone()
    verdict = verifier.verify(p, Draft(tokens, parents, laws), coins, key)
    assert int(verdict.accepted.max()) > 0
    assert all(torch.equal(now, then) for now, then in zip((p, q, tokens), before, strict=True))
