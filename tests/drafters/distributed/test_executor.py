"""The executor on table models and small transformers: the sequential tokens, whatever the threads do."""

import pytest
import torch

from drafters.affinity.prior import AffinityPrior
from drafters.distributed.backend import DistributedError
from drafters.distributed.backends.thread_servers import ThreadsBackend
from drafters.distributed.executor import Distributed
from drafters.distributed.plan import PlanError
from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling, residual, warp
from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.catalog import build
from drafters.samplers.verify.race import Race
from drafters.stop.catalog import build as build_stop
from drafters.stop.policies.static import Static
from eval.distributed.faults import Faults, Faulty
from eval.lossless.toys.table_models import foreign_pair, full_pair, pruned_pair
from tests.drafters.stop.conftest import make_trained as _make_trained

make_trained = _make_trained  # the fixture of tests/drafters/stop

LIMITS = Limits(10, Sampling(0.8))
PROMPTS = [torch.tensor(ids) for ids in ([1, 2, 3], [0], [3, 3, 1, 2, 0, 1])]


def coins(seed=0):
    return KeyedCoins(seed, torch.tensor([5, 0, 77]))


def lists(decoded):
    return [tokens.tolist() for tokens in decoded.tokens]


def canonical(pair, sampler, prompts, keyed, limits):
    """Chain rejection one position at a time from whole-prefix laws: no cache, no block, no server."""
    out = []
    for row, prompt in enumerate(prompts):
        own, tokens = keyed.take(keyed.requests[row : row + 1]), prompt.tolist()
        while len(tokens) == len(prompt) or limits.cut(tokens[len(prompt) :], 1, pair.eos) is None:
            stream = [part for token in tokens for part in pair.feed(token)]
            key = Key(torch.tensor([len(tokens)]), None, "draft")
            q = warp(pair.drafter.after(stream).unsqueeze(0), limits.drafting)
            support = sampler.token_proposal.support
            if support is not None:
                q = warp(pair.drafter.after(stream).masked_fill(~support, -torch.inf).unsqueeze(0), limits.drafting)
            lifted = sampler.token_proposal.lift(q)
            missing = (1 - lifted.sum(-1, keepdim=True)).clamp(min=0)
            whole = lifted if sampler.token_proposal.total else torch.cat([lifted, missing], -1)
            drawn = int(own.draw(whole, key))
            p = warp(pair.target.after(tokens).unsqueeze(0), limits.sampling)
            miss = drawn == p.shape[-1]
            p_x, q_x = (p[:, 0] * 0, q[:, 0] * 0) if miss else (p[:, drawn].double(), lifted[:, drawn].double())
            if bool(own.accept(p_x, q_x, key.at(purpose="accept"))):
                tokens.append(drawn)
            else:
                tokens.append(int(own.draw(residual(p, lifted), key.at(purpose="residual"))))
        out.append(tokens[len(prompt) :])
    return out


def prior(vocab):
    """A prior over a pruned pair: every kept token gives a fifth to two others."""
    kept, size = vocab.to_target.shape[0], vocab.to_drafter.shape[0]
    index = torch.stack([(vocab.to_target + 1) % size, (vocab.to_target + 2) % size], -1).int()
    return AffinityPrior(index, torch.full((kept, 2), 0.5), torch.full((kept,), 0.2))


PAIRS = {
    "full": lambda: full_pair(5, 3, eos=(4,)),
    "pruned": lambda: pruned_pair(6, [0, 1, 3, 4], 2),
    "foreign": lambda: foreign_pair(1),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("name", ["race", "exact_match"])
def test_positional_samplers_give_plain_decodings_tokens(kind, name):
    pair = PAIRS[kind]()
    sampler = build(name, pair.vocab)
    plain = lists(autoregressive(pair, PROMPTS, coins(), LIMITS, sampler.verifier))
    for servers, lookahead in ((1, 2), (3, 1)):
        assert lists(Distributed(servers).decode(pair, sampler, Static(lookahead), PROMPTS, coins(), LIMITS)) == plain


@pytest.mark.parametrize(
    ("name", "kind"),
    [("standard", "full"), ("tli", "pruned"), ("tli", "foreign"), ("union", "foreign"), ("rdk", "pruned")],
)
def test_rejection_gives_its_canonical_tokens(name, kind):
    pair = PAIRS[kind]()
    sampler = build(name, pair.vocab, **({"affinity": prior(pair.vocab)} if name == "rdk" else {}))
    expected = canonical(pair, sampler, PROMPTS, coins(), LIMITS)
    for servers, lookahead in ((1, 2), (3, 1)):
        found = Distributed(servers).decode(pair, sampler, Static(lookahead), PROMPTS, coins(), LIMITS)
        assert lists(found) == expected


@pytest.mark.parametrize("name", ["race", "standard"])
def test_faults_change_nothing(name):
    pair = PAIRS["full"]()
    sampler, limits = build(name, pair.vocab), Limits(10, ignore_eos=True)
    expected = lists(Distributed(1).decode(pair, sampler, Static(1), PROMPTS, coins(), limits))
    faulty = Faulty(ThreadsBackend, Faults(), patience=0.01)
    for _ in range(4):
        found = Distributed(3, cluster=faulty).decode(pair, sampler, Static(2), PROMPTS, coins(), limits)
        assert lists(found) == expected


def test_greedy_is_greedy():
    pair, limits = PAIRS["full"](), Limits(14, Sampling(0.0))
    plain = lists(autoregressive(pair, PROMPTS, coins(), limits))
    for name in ("race", "standard", "exact_match"):
        assert lists(Distributed().decode(pair, build(name, pair.vocab), Static(3), PROMPTS, coins(), limits)) == plain


@pytest.mark.parametrize("kind", ["full", "same", "pruned", "foreign"])
def test_transformers(pairs, prompts, kind):
    pair, vocab = pairs(kind, dtype=torch.float64)
    keyed, limits = KeyedCoins(3, torch.arange(2)), Limits(8)
    race, prompts = build("race", vocab), prompts[::2]
    found = Distributed().decode(pair, race, Static(3), prompts, keyed, limits)
    assert lists(found) == lists(speculative(pair, race, Static(4), prompts, keyed, limits))
    rejection = build("tli", vocab)
    one, other = (
        Distributed(n).decode(pair, rejection, Static(k), prompts, keyed, limits) for n, k in ((1, 1), (3, 4))
    )
    assert lists(one) == lists(other)


def test_counts_add_up():
    pair = PAIRS["full"]()
    found = Distributed().decode(
        pair, build("race", pair.vocab), Static(3), PROMPTS, coins(), Limits(40, ignore_eos=True)
    )
    for row in range(3):
        drafted, verified, accepted = map(sum, zip(*found.rounds[row], strict=True))
        assert accepted <= verified <= drafted == found.drafted[row]
        assert accepted <= len(found.tokens[row]) == 40
        assert len(found.rounds[row]) == found.target_forwards[row]


def test_a_drafter_without_room_leaves_plain_decoding():
    pair = full_pair(5, 3)
    short = type(pair)(pair.target, pair.drafter, pair.vocab, context=(None, 6))
    for name in ("race", "standard"):
        sampler = build(name, pair.vocab)
        runs = [Distributed(n).decode(short, sampler, Static(k), PROMPTS, coins(), LIMITS) for n, k in ((1, 1), (3, 4))]
        assert lists(runs[0]) == lists(runs[1])
    race = build("race", pair.vocab)
    assert lists(Distributed().decode(short, race, Static(2), PROMPTS, coins(), LIMITS)) == lists(
        autoregressive(short, PROMPTS, coins(), LIMITS, Race())
    )


def test_what_it_refuses():
    pair = full_pair(5, 3)
    for name in ("block", "rrs", "race_tree", "slem"):
        more = {"texts": lambda: None} if name == "slem" else {}
        try:
            sampler = build(name, pair.vocab, **more)
        except AttributeError:
            continue
        with pytest.raises(DistributedError, match=name):
            Distributed().decode(pair, sampler, Static(2), PROMPTS, coins(), LIMITS)
    with pytest.raises(PlanError, match="lookahead"):
        Distributed().decode(pair, build("race", pair.vocab), Static(0), PROMPTS, coins(), LIMITS)
    with pytest.raises(DistributedError, match="KeyedCoins"):
        Distributed().decode(pair, build("race", pair.vocab), Static(2), PROMPTS, object(), LIMITS)


@pytest.mark.parametrize("name", ["confidence", "adaedl", "specdecpp", "disco", "cost_aware"])
def test_a_policy_ends_blocks_and_changes_no_token(name, make_trained):
    """Also those that add up over a round: a block begins as a round does."""
    pair = full_pair(5, 3)
    numbers = {
        "disco_threshold.1": 0.5, "disco_max_length.1": 4, "specdecpp_threshold.1": 0.6,
        "c.1": 0.1, "rate.1": 1.3, "first.1": 0.6, "min_length.1": 2,
    }  # fmt: skip
    stop, blocks = build_stop(name, trained=make_trained(**numbers)), []
    asked = stop.should_continue
    stop.should_continue = lambda features, drafted: (
        blocks.append((features is None, int(drafted))) or asked(features, drafted)
    )
    expected = lists(Distributed().decode(pair, build("standard", pair.vocab), Static(3), PROMPTS, coins(), LIMITS))
    found = Distributed(lookahead=4).decode(pair, build("standard", pair.vocab), stop, PROMPTS, coins(), LIMITS)
    assert lists(found) == expected
    assert {drafted for begins, drafted in blocks if begins} == {0}
    assert blocks[:2] == [(True, 0), (False, 2 if name == "cost_aware" else 1)]
