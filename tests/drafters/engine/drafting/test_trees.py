"""Draft trees through real transformers: greedy identity, batches, caches, contexts, counts; every tree sampler of the catalog."""

import pytest
import torch

from drafters.engine.cache import cached_model
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.rounding import excess
from drafters.samplers.catalog import STRATEGIES, build
from drafters.samplers.draft import Tree
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity
from tests.rounding import largest_bound

TREES = ["rrs", "rrs_wor", "kseq", "greedy", "traversal"]
KINDS = ["full", "same", "pruned", "foreign"]
NEW, V = 14, 61
GREEDY, SAMPLED = Limits(NEW, Sampling(0.0)), Limits(NEW, Sampling(0.8, top_p=0.95))
SHAPES = [(3, 2, 1), (1, 3), (2,), ((2,), (0, 2), (2, 1))]


def coins(requests, seed=0):
    return KeyedCoins(seed, torch.tensor(requests), strict=True)


def lists(decoded):
    return [tokens.tolist() for tokens in decoded.tokens]


def run(pairs, name, kind, prompts, requests, limits, branching=(3, 2, 1), levels=5, **options):
    pair, vocab = pairs(kind, **options)
    sampler = build(name, vocab, {"branching": branching})
    return speculative(pair, sampler, Static(levels), prompts, coins(requests), limits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*TREES, "block"])
def test_greedy_identity(pairs, prompts, name, kind, dtype):
    pair, vocab = pairs(kind, dtype=dtype)
    expected = lists(autoregressive(pair, prompts, coins(range(4)), GREEDY))
    out = speculative(pair, build(name, vocab), Static(3), prompts, coins(range(4)), GREEDY)
    assert lists(out) == expected
    if kind == "same":
        assert int(out.target_forwards.max()) == -(-NEW // 4)
        assert torch.equal(out.verified, out.accepted)  # every path ended at a leaf: nothing was refused


@pytest.mark.parametrize("branching", SHAPES)
@pytest.mark.parametrize("name", TREES)
def test_greedy_identity_of_shapes_and_stops(pairs, prompts, name, branching):
    expected = lists(autoregressive(pairs("full")[0], prompts, coins(range(4)), GREEDY))
    for levels in (0, 1, 5):
        assert lists(run(pairs, name, "full", prompts, range(4), GREEDY, branching, levels)) == expected


@pytest.mark.parametrize("architecture", ["gpt2", "mistral-window", "gemma2", "gpt-neox"])
def test_greedy_identity_of_architectures(pairs, prompts, architecture):
    """Sliding windows and learned positions: a node's position is its depth's, not its slot's."""
    options = {"target": architecture, "drafter": architecture}
    expected = lists(autoregressive(pairs("full", **options)[0], prompts, coins(range(4)), GREEDY))
    for name in ("rrs", "traversal"):
        assert lists(run(pairs, name, "full", prompts, range(4), GREEDY, **options)) == expected


@pytest.mark.floats
@pytest.mark.parametrize("kind", ["full", "pruned", "foreign"])
@pytest.mark.parametrize("name", [*TREES, "block"])
def test_a_request_does_not_see_its_batch(pairs, prompts, name, kind):
    """Sampled; no coin is used twice, and each row's output, rounds and counts are its own."""
    pair, vocab = pairs(kind, dtype=torch.float64)
    sampler, requests = build(name, vocab), [3, 1, 7, 4]
    together = speculative(pair, sampler, Static(3), prompts, coins(requests), SAMPLED)
    for row in (0, 2):
        alone = speculative(pair, sampler, Static(3), [prompts[row]], coins([requests[row]]), SAMPLED)
        assert lists(alone)[0] == lists(together)[row]
        assert alone.rounds[0] == together.rounds[row]
    other = speculative(pair, sampler, Static(3), prompts, coins(requests, seed=1), SAMPLED)
    assert lists(other) != lists(together)


@pytest.mark.parametrize("name", ["rrs", "traversal"])
def test_the_caches_hold_what_was_committed(pairs, prompts, name, monkeypatch):
    """In every round the logits at each row's root are those of a forward over its whole text."""
    seen = []
    clean = cached_model.TransformersModel.extend

    def watched(self, tokens, *args, **kwargs):
        logits = clean(self, tokens, *args, **kwargs)
        if logits is not None:
            seen.append((self.model, tokens.clone(), logits))
        return logits

    monkeypatch.setattr(cached_model.TransformersModel, "extend", watched)
    out = run(pairs, name, "full", prompts, range(4), SAMPLED, dtype=torch.float64)
    monkeypatch.undo()
    pair = pairs("full", dtype=torch.float64)[0]
    compacted, bound = 0, largest_bound(pair.target)
    for row, prompt in enumerate(prompts):
        steps = [(tokens[row], logits[row]) for model, tokens, logits in seen if model is pair.target]
        text, end = [*prompt.tolist(), *out.tokens[row].tolist()], len(prompt)
        for (tokens, logits), (_, _, accepted) in zip(steps, out.rounds[row], strict=False):
            assert int(tokens[0]) == text[end - 1]
            with torch.inference_mode():
                expected = pair.target(input_ids=torch.tensor([text[:end]]), use_cache=False).logits[0, -1]
            assert excess(logits[0], expected, bound) <= 1
            compacted += accepted > 0
            end += accepted + 1
    assert compacted >= 4  # paths were kept, and later rounds read them


@pytest.mark.parametrize("name", ["kseq", "traversal"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_full_contexts(models, name, architecture):
    """A drafter whose context fills up beside one that still fits, and a target used to its last position."""
    size = {"n_positions": 24} if architecture == "gpt2" else {"max_position_embeddings": 24}
    target = models(architecture)
    long = torch.arange(66) % V  # with 30 new tokens the target's 96 positions
    batch, limits = [long, long[:3]], Limits(30, Sampling(0.0))
    pair = TransformersPair(target, models(architecture, seed=4, **size), ())
    expected = lists(autoregressive(pair, batch, coins([0, 1]), limits))
    for drafter in (pair.drafter, target):
        pair = TransformersPair(target, drafter, ())
        out = speculative(pair, build(name, identity(V)), Static(3), batch, coins([0, 1]), limits)
        assert lists(out) == expected
        assert int(out.drafted[1]) > 0


def test_counts(pairs, prompts):
    out = run(pairs, "rrs_wor", "full", prompts, range(4), SAMPLED)
    for row, rounds in enumerate(out.rounds):
        assert all(accepted <= verified <= accepted + 1 for _, verified, accepted in rounds)
        assert all(drafted <= 15 and accepted <= 3 for drafted, _, accepted in rounds)
        assert int(out.accepted[row]) + len(rounds) == NEW
        assert rounds[0][0] == 15
    whole = run(pairs, "rrs", "same", prompts, range(4), Limits(4))
    assert [rounds[0] for rounds in whole.rounds] == [(15, 3, 3)] * 4  # p = q: the first child, three times


def test_strategies_draft_as_many_nodes(pairs, prompts):
    vocab = identity(V)
    assert {sum(map(sum, Tree(branching).levels)) for branching in STRATEGIES.values()} == {15}
    for name in ("rrs", "rrs_wor"):
        for strategy in STRATEGIES:
            sampler = build(name, vocab, {"branching": strategy})
            out = speculative(pairs("full")[0], sampler, Static(15), prompts, coins(range(4)), Limits(17))
            assert [rounds[0][0] for rounds in out.rounds] == [15] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branching": "bush"}, "sequence, batch, tree, got 'bush'"),
        ({"branching": ()}, "at least one depth"),
        ({"branching": (2, 0)}, "a number >= 1"),
        ({"siblings": "all"}, "with, without, mixed, got 'all'"),
        ({"depth": 3}, "no option depth; known: branching, siblings"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build("traversal", identity(V), options)
