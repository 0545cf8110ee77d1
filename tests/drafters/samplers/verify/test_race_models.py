"""Race decoding on the embedded pair in fp32: equal to plain race decoding but for ties within rounding, which are counted."""

from pathlib import Path

import pytest
import torch

import drafters
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import full_map, pair_of
from drafters.models.pair import load_pair
from drafters.models.prune import prune_head
from drafters.probs import Sampling, warp
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.samplers.verify.race import Race
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import restrict

ZOO = Path(drafters.__file__).parent / "zoo" / "pycode"
TEXTS = ["def area(radius):\n    return ", "import os\n\nfor name in ", "class Stack:\n    def __init__(self", "x = ["]
NEW, GAP = 16, 1e-4


@pytest.fixture(scope="module")
def models():
    return load_pair(target=ZOO / "target", drafter=ZOO / "drafter", device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def prompts(models) -> list[torch.Tensor]:
    texts = [text for text in TEXTS for _ in range(2)]  # each with noise of its own
    return [torch.tensor(models.target_tokenizer(text)["input_ids"]) for text in texts]


@pytest.fixture(scope="module")
def full(models):
    return pair_of(models), full_map(models)


@pytest.fixture(scope="module")
def pruned(models):
    """A drafter of its own, for pruning changes it."""
    drafter = load_pair(target=ZOO / "target", drafter=ZOO / "drafter", device="cpu", dtype="fp32").drafter
    kept = torch.arange(0, models.vocabulary, 3)
    return pair_of(models, prune_head(drafter, kept)), restrict(full_map(models), kept)


@pytest.fixture(scope="module")
def plain(full, prompts):
    """Temperature -> plain race decoding, once."""
    coins = coins_of(prompts)
    return {
        temperature: autoregressive(full[0], prompts, coins, Limits(NEW, Sampling(temperature)), Race())
        for temperature in (0.0, 1.0)
    }


def coins_of(prompts) -> KeyedCoins:
    return KeyedCoins(3, torch.arange(len(prompts)), strict=True)


def score_gap(models, prompt, tokens, got, sampling, coins) -> float:
    """How far apart log p - log E of two tokens are after the same prefix."""
    logits = models.target(input_ids=torch.cat([prompt, tokens]).unsqueeze(0)).logits[0, -1]
    position = torch.tensor([len(prompt) + len(tokens)])
    noise = coins.race(position, torch.tensor(got))[0]
    score = warp(logits.double(), sampling)[got].log() - noise.log()
    return abs(float(score[0] - score[1]))


def mismatches(models, prompts, plain, fast, sampling, coins) -> list[float]:
    """Score gaps at the first difference of each row that has one."""
    gaps = []
    for row, (a, b) in enumerate(zip(plain.tokens, fast.tokens, strict=True)):
        if torch.equal(a, b):
            continue
        same = next(i for i in range(min(len(a), len(b))) if a[i] != b[i])
        own = coins.take(torch.tensor([row]))
        gaps.append(score_gap(models, prompts[row], a[:same], [int(a[same]), int(b[same])], sampling, own))
    return gaps


@pytest.mark.floats
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", ["race", "race_tree"])
@pytest.mark.parametrize("drafter", ["full", "pruned"])
@torch.inference_mode()
def test_output_is_that_of_plain_race_decoding(name, drafter, temperature, models, prompts, plain, request):
    pair, vocab = request.getfixturevalue(drafter)
    sampling, coins = Sampling(temperature), coins_of(prompts)
    fast = speculative(pair, build(name, vocab), Static(4), prompts, coins, Limits(NEW, sampling))
    gaps = mismatches(models, prompts, plain[temperature], fast, sampling, coins)
    print(f"{name}, {drafter}, T={temperature:g}: {len(gaps)} of {len(prompts)} rows differ, by scores {gaps}")
    assert len(gaps) <= len(prompts) / 4
    assert all(gap < GAP for gap in gaps)
    assert int(fast.accepted.sum()) > 0


def test_greedy_race_decoding_is_greedy_decoding(full, prompts, plain):
    greedy = autoregressive(full[0], prompts, coins_of(prompts), Limits(NEW, Sampling(0.0)))
    assert [tokens.tolist() for tokens in plain[0.0].tokens] == [tokens.tolist() for tokens in greedy.tokens]


@torch.inference_mode()
def test_other_noise_is_found_out(full, models, prompts, plain):
    """The comparison itself: rows decoded with another seed differ, and not by rounding."""
    other = autoregressive(full[0], prompts, KeyedCoins(4, torch.arange(len(prompts))), Limits(NEW), Race())
    gaps = mismatches(models, prompts, plain[1.0], other, Sampling(), coins_of(prompts))
    assert len(gaps) > len(prompts) / 2
    assert max(gaps) > 100 * GAP
