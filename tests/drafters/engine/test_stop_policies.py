"""Stop policies in the engine: outputs stay the target's, features are those of training, nothing is drafted for nobody."""

from dataclasses import replace

import pytest
import torch

from drafters.engine import decode
from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.stop.catalog import CATALOG, build
from drafters.stop.features import RECENT, STEP
from drafters.stop.policies.confidence import Confidence
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopError, StopPolicy
from eval.lossless.exact.exact_law import exact_law, largest_error, reference_law, total_variation
from eval.lossless.mutants.engine import dropping
from eval.lossless.toys.toy_pairs import TOYS, blocks
from eval.stop.replay import replay
from pipeline.disco.traces.trace import forced, trace, traced
from tests.drafters.stop.conftest import make_trained as _make_trained

make_trained = _make_trained  # the fixture of tests/drafters/stop
NUMBERS = {
    "disco_threshold.1": 0.5, "disco_max_length.1": 3, "specdecpp_threshold.1": 0.6, "c.1": 0.2, "rate.1": 1.3, "first.1": 0.6,
}  # fmt: skip


def policy(name, trained):
    options = {"length": 2} if name in ("static", "heuristic", "heuristic_transient") else {}
    return build(name, options | ({"max_length": 3} if name != "static" else {}), trained=trained)


@pytest.mark.parametrize("name", CATALOG)
@pytest.mark.parametrize("sampler", ["tli", "block"])
def test_the_exact_law_is_the_targets_under_every_policy(name, sampler, make_trained):
    """Block verification too, although a round's length depends on what was drawn."""
    toy, trained = TOYS["pruned"], make_trained(**NUMBERS)
    limits = Limits(toy.new)
    law = exact_law(toy.sampler(sampler), lambda: policy(name, trained), toy.pair, toy.prompt, limits)
    assert largest_error(law, reference_law(toy.pair, toy.prompt, limits)) < 1e-14


@pytest.mark.parametrize("least", [2, 3])
def test_rounds_of_a_shortest_length_keep_the_targets_law(least, make_trained):
    toy, trained = TOYS["pruned"], make_trained(**NUMBERS)
    limits, options = Limits(toy.new), {"max_length": 3, "min_length": least}
    law = exact_law(
        toy.sampler("block"), lambda: build("cost_aware", options, trained=trained), toy.pair, toy.prompt, limits
    )
    assert largest_error(law, reference_law(toy.pair, toy.prompt, limits)) < 1e-14


class Noted(StopPolicy):
    """Goes on always, and notes what it was asked."""

    needs_features, min_length, max_length = True, 3, 5

    def __init__(self):
        self.asked = []

    def should_continue(self, features, drafted):
        self.asked.append((features is not None, *drafted.tolist()))
        return torch.ones_like(drafted, dtype=torch.bool)

    def on_verified(self, accepted, drafted, rows):
        self.asked.append("verified")

    def reset(self, rows):
        pass


def test_a_policy_with_a_shortest_round_is_not_told_of_the_draws_before_it(pairs, prompts, monkeypatch):
    pair, vocab = pairs("same", dtype=torch.float64)  # every draft is accepted: rounds of 6, 6 and 4 tokens
    from drafters.engine.drafting import chain
    from drafters.samplers.catalog import build as build_sampler

    described, describe = [], chain.describe
    monkeypatch.setattr(chain, "describe", lambda *given: described.append(given[3][0].tolist()) or describe(*given))
    stop, coins = Noted(), KeyedCoins(1, torch.tensor([0]))
    speculative(pair, build_sampler("standard", vocab), stop, [prompts[0]], coins, Limits(16))
    whole = [(False, 0), (True, 3), (True, 4), "verified"]
    assert stop.asked == [*whole, *whole, (False, 0), "verified"]  # the last round has room for three
    assert described == [[2], [3], [4]] * 2 + [[2]]  # drafts before the one described


def test_a_policy_that_drops_the_token_it_looked_at_is_found(monkeypatch):
    toy, limits = TOYS["full"], Limits(3)
    reference = reference_law(toy.pair, toy.prompt, limits)
    monkeypatch.setattr(decode, "propose_chain", dropping(decode.propose_chain))
    law = exact_law(toy.sampler("standard"), lambda: Confidence(0.4, 3), toy.pair, toy.prompt, limits)
    assert total_variation(law, reference) > 0.01


@pytest.mark.floats
@pytest.mark.parametrize("name", ["heuristic", "confidence_adaptive", "adaedl", "cost_aware"])
def test_greedy_output_and_batches(name, pairs, prompts, make_trained):
    pair, vocab = pairs("pruned", dtype=torch.float64)
    from drafters.samplers.catalog import build as build_sampler

    sampler, trained = build_sampler("tli", vocab), make_trained(**NUMBERS)
    for temperature in (0.0, 1.0):
        limits = Limits(8, Sampling(temperature))
        whole = speculative(pair, sampler, policy(name, trained), prompts, KeyedCoins(3, torch.arange(4)), limits)
        for row, prompt in list(enumerate(prompts))[::2]:
            alone = speculative(
                pair, sampler, policy(name, trained), [prompt], KeyedCoins(3, torch.tensor([row])), limits
            )
            assert torch.equal(alone.tokens[0], whole.tokens[row])
            assert alone.rounds[0] == whole.rounds[row]  # a row's policy knows nothing of the others
        if temperature == 0:
            plain = decode.autoregressive(pair, prompts, KeyedCoins(3, torch.arange(4)), limits)
            assert all(torch.equal(a, b) for a, b in zip(plain.tokens, whole.tokens, strict=True))


def test_where_every_row_stopped_the_drafter_is_not_called(pairs, prompts):
    class Uneven(StopPolicy):
        """Row r drafts r tokens."""

        max_length = 9

        def should_continue(self, features, drafted):
            return drafted < torch.arange(len(drafted))

        def on_verified(self, accepted, drafted, rows):
            """Nothing."""

        def reset(self, rows):
            """Nothing."""

    pair, vocab = pairs("full")
    from drafters.samplers.catalog import build as build_sampler

    calls = []

    class Counting(type(pair)):
        def open_drafter(self, rows, capacity):
            model = super().open_drafter(rows, capacity)
            real = model.extend

            def extend(*args, **kwargs):
                calls.append(kwargs.get("logits", True))
                return real(*args, **kwargs)

            model.extend = extend
            return model

    counting = Counting(**{name: getattr(pair, name) for name in pair.__dataclass_fields__})
    sampler = build_sampler("standard", vocab)
    for stop, rows, per_round in ((Uneven(), 3, 2), (Static(0), 3, 0), (Static(4), 1, 4)):
        calls.clear()
        out = speculative(counting, sampler, stop, prompts[:rows], KeyedCoins(0, torch.arange(rows)), Limits(30))
        forwards = sum(calls)
        assert forwards <= per_round * max(out.target_forwards.tolist())
        assert (forwards > 0) == (per_round > 0)


class Recorder(Confidence):
    """Notes what it is shown."""

    def __init__(self):
        super().__init__(threshold=0.0, max_length=4)
        self.seen = []

    def should_continue(self, features, drafted):
        if features is None:
            self.seen.append([])
        else:
            self.seen[-1].append(features[0].clone())
        return super().should_continue(features, drafted)


def test_decoding_and_traces_compute_the_same_features():
    """At temperature 0, where drafts up to the first rejection are the target's text: position by position."""
    toy = blocks([0, 2, 3], 5)
    sampler = TOYS["pruned"].sampler("tli")
    sampler = replace(sampler, proposal=type(sampler.proposal)(toy.pair.vocab))
    prompt, limits = torch.tensor(toy.prompt), Limits(24, Sampling(0.0))
    stop = Recorder()
    out = speculative(toy.pair, sampler, stop, [prompt], KeyedCoins(0, torch.tensor([0])), limits)
    made = trace(forced(toy.pair, prompt, out.tokens[0]), out.tokens[0], sampler, Sampling(0.0), 0, 0, len(prompt))
    place, compared = 0, 0
    others = [column for column in range(made.features.shape[1]) if not STEP <= column <= RECENT]
    for (_, _, accepted), seen in zip(out.rounds[0], stop.seen, strict=False):  # a round without room asks nothing
        for step, got in enumerate(seen[: accepted + 1]):
            assert torch.allclose(got[others].double(), made.features[place + step, others].double(), atol=1e-5)
            compared += 1
        place += accepted + 1
    assert compared > 5


@pytest.mark.parametrize("toy", ["full", "pruned"])
def test_a_replay_at_temperature_0_is_what_decoding_does(toy):
    """Rounds of every static length, one by one."""
    one = TOYS[toy]
    sampler, prompt, greedy = one.sampler("tli"), torch.tensor(one.prompt), Sampling(0.0)
    pair = replace(one.pair, eos=())
    made = traced(pair, sampler, [prompt], [0], greedy, 0, 20)
    for length in range(5):
        out = speculative(pair, sampler, Static(length), [prompt], KeyedCoins(0, torch.tensor([0])), Limits(20, greedy))
        found = replay(made, Static(length))
        assert [(d, a) for d, _, a in out.rounds[0]] == [tuple(row) for row in found.rounds[:, 1:3].tolist()]


@pytest.mark.parametrize("name", ["rrs", "slem"])
def test_policies_that_read_laws_are_for_chains_of_tokens(name):
    toy = TOYS["many-to-one"] if name == "slem" else TOYS["full"]
    with pytest.raises(StopError, match=r"Confidence reads .* choose stop=static or stop=heuristic"):
        speculative(
            toy.pair,
            toy.sampler(name),
            Confidence(),
            [torch.tensor(toy.prompt)],
            KeyedCoins(0, torch.tensor([0])),
            Limits(3),
        )
