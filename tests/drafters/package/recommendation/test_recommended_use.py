"""What a recommendation makes `drafters.generate` do, and what it never can: change a token, or outweigh an argument."""

import dataclasses
import warnings

import pytest
import torch

from drafters import decoding_choice, generation
from drafters.generation import generate
from drafters.package.reader import load
from drafters.package.recommendation.choices import Choice, Rated, Recommendation, Speedup, Use
from drafters.samplers.catalog import CATALOG
from drafters.stop.policies.static import Static
from drafters.stop.policies.svip import SVIP

PROMPTS = torch.tensor([[1, 5, 7, 11], [1, 20, 33, 8]])
PLAIN = Use()


@pytest.fixture(scope="module")
def target(tools):
    """The drafter's network, a little off, so that it accepts some drafts and not others."""
    model, generator = tools.make_model(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * weight.std() * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def loaded(original):
    return load(original, device="cpu")


def way(sampler="tli", form="package", stop="static", length=3, **options) -> Use:
    return Use(form, sampler, options, stop, length)


@pytest.fixture
def advised(loaded, tools):
    """The package with a recommendation of these ways, best first, for a temperature. A new one each time: all warn anew."""

    def make(*ways, temperature=1.0, device="cpu", ratios=(1.5,) * 9):
        best, *others = [
            {**tools.rated(use), "speedup": Speedup(ratio, ratio, ratio)}
            for use, ratio in zip(ways, ratios, strict=False)
        ]
        found = Choice(**best, temperature=temperature, reason="x", next=tuple(Rated(**other) for other in others))
        advice = tools.recommend(loaded.manifest.content, choices=(found,), device=device)
        return dataclasses.replace(loaded, recommendation=advice)

    return make


@pytest.fixture
def ran(monkeypatch):
    """What the last call of `generate` ran: (sampler, stop policy, drafter), None for plain decoding."""
    seen = []

    def speculative(pair, sampler, stop, *more):
        seen.append((sampler, stop, pair.drafter))
        return "drafted"

    monkeypatch.setattr(generation, "speculative", speculative)
    monkeypatch.setattr(generation, "autoregressive", lambda *more: seen.append(None) or "plain")

    def run(target, package, **asked):
        seen.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generate(target, package, PROMPTS[0], **asked)
        return seen[0]

    return run


def names(found):
    """Of the sampler and the policy, and the policy's longest round."""
    return None if found is None else (found[0].name, type(found[1]).__name__, found[1].max_length)


def test_what_is_recommended_is_done(target, advised, ran, loaded):
    assert names(ran(target, advised(way("block", length=7)))) == ("block", "Static", 7)
    sampler, _, drafter = ran(target, advised(way("rrs", branching=[2, 1])))
    assert (sampler.name, sampler.shape.branching, drafter is loaded.drafter) == ("rrs", (2, 1), True)
    sampler, stop, drafter = ran(target, advised(way("block", "tail", "svip", 12)))
    assert (sampler.name, stop, drafter is loaded.tailed) == ("block", SVIP(max_length=12), True)
    assert ran(target, advised(PLAIN)) is None


def test_other_laws_and_devices_take_the_defaults(target, advised, ran):
    default = ("tli", "Static", 5)
    for other in ({"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 0.0}):
        assert names(ran(target, advised(way("block", length=7)), **other)) == default
        assert names(ran(target, advised(PLAIN), **other)) == default
    assert names(ran(target, advised(way("block", length=7), device="cuda"))) == default
    assert names(ran(target, advised(way("block", length=7), temperature=0.0), temperature=0.0, top_k=3))[0] == "block"


def test_arguments_outweigh_it(target, advised, ran):
    package = advised(way("block", length=7), way("rrs", branching=[2, 1]))
    assert names(ran(target, package, sampler="union")) == ("union", "Static", 5)
    assert names(ran(target, package, sampler="block")) == ("block", "Static", 5), "and its stop policy is left alone"
    assert names(ran(target, package, lookahead=2)) == ("block", "Static", 2)
    assert names(ran(target, package, stop="static")) == ("block", "Static", 5)
    assert names(ran(target, package, stop="svip")) == ("block", "SVIP", 40)
    assert names(ran(target, package, stop=Static(4), lookahead=9)) == ("block", "Static", 4)
    tree_first = advised(way("rrs", branching=[2, 1]), way("block", length=7))
    assert names(ran(target, tree_first, stop="svip")) == ("block", "SVIP", 40), "a tree cannot stop by its laws"
    assert names(ran(target, tree_first, sampler="tail"))[0] == "tail"


def test_a_caller_who_says_how_to_draft_drafts(target, advised, ran):
    for asked in ({"sampler": "tli"}, {"stop": "static"}, {"lookahead": 5}):
        assert names(ran(target, advised(PLAIN), **asked)) == ("tli", "Static", 5)
    assert names(ran(target, advised(PLAIN, way("block")), lookahead=2)) == ("block", "Static", 2)


def test_what_the_package_does_not_hold_gives_way_to_the_next(target, advised, ran, loaded):
    unpruned, best = way("standard", "unpruned"), way("block", length=4)
    assert names(ran(target, advised(unpruned, best))) == ("block", "Static", 4)
    assert names(ran(target, advised(unpruned))) == ("tli", "Static", 5)
    assert names(ran(target, advised(way("standard"), best)))[0] == "block", "the head is pruned"
    assert ran(target, advised(unpruned, PLAIN, best)) is None
    assert ran(target, advised(unpruned, best, ratios=(1.3, 0.9))) is None, (
        "the next best is slower than plain decoding"
    )
    bare = {"tail": None, "tailed": None, "affinity": None, "stop": None}
    for missing in (way("block", "tail"), way("rdk"), way("tli", stop="disco", length=None)):
        assert names(ran(target, dataclasses.replace(advised(missing, best), **bare))) == ("block", "Static", 4)
    whole = dataclasses.replace(advised(way("tli", "unpruned"), best), kept=torch.arange(48))
    assert names(ran(target, whole))[0] == "tli", "an unpruned package is the unpruned drafter"


def test_plain_decoding_is_told_once_per_package(target, advised):
    first, second = advised(PLAIN), advised(PLAIN)
    for package in (first, second):
        with pytest.warns(UserWarning, match="eval found no gain: plain decoding; pass sampler=") as caught:
            out = generate(target, package, PROMPTS, max_new_tokens=4)
        assert caught[0].filename == __file__
        assert int(out.drafted.sum()) == 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            generate(target, package, PROMPTS, max_new_tokens=4)
            assert int(generate(target, package, PROMPTS, max_new_tokens=4, sampler="tli").drafted.sum()) > 0


WAYS = [
    *((name, form, "static", 3) for form in ("package", "tail") for name in CATALOG if (name, form) != ("tail", "package")),
    *(("tli", "package", stop, None) for stop in ("svip", "confidence")), ("rrs", "tail", "heuristic", 6),
    ("block", "package", "heuristic", 6), ("standard", "unpruned", "static", 5),
]  # fmt: skip


def test_greedy_tokens_are_the_targets_whatever_is_recommended(target, advised):
    plain = [
        target.generate(row[None], max_new_tokens=9, do_sample=False, eos_token_id=[1, 2])[0, 4:] for row in PROMPTS
    ]
    accepted = 0
    for name, form, stop, length in WAYS:
        package = advised(way(name, form, stop, length), temperature=0.0)
        out = generate(target, package, PROMPTS, temperature=0.0, max_new_tokens=9)
        assert [row.tolist() for row in out.tokens] == [row.tolist() for row in plain], (name, form, stop)
        assert int(out.drafted.sum()) > 0, (name, form, stop)
        accepted += int(out.accepted.sum())
    assert accepted > 0
    with pytest.warns(UserWarning, match="plain decoding"):
        out = generate(target, advised(PLAIN, temperature=0.0), PROMPTS, temperature=0.0, max_new_tokens=9)
    assert [row.tolist() for row in out.tokens] == [row.tolist() for row in plain]


def test_planted_the_choice_of_another_temperature(target, advised, ran, monkeypatch):
    monkeypatch.setattr(Recommendation, "choice", lambda found, device, sampling: found.choices[0])
    with pytest.raises(AssertionError):
        test_other_laws_and_devices_take_the_defaults(target, advised, ran)


def test_planted_plain_decoding_is_not_heard(target, advised, ran, loaded, monkeypatch):
    monkeypatch.setattr(decoding_choice, "_gains", lambda rated: True)
    with pytest.raises(AssertionError):
        test_what_is_recommended_is_done(target, advised, ran, loaded)


def test_planted_a_recommendation_that_outweighs_its_caller(target, advised, ran, monkeypatch):
    monkeypatch.setattr(decoding_choice, "_given", lambda *more: None)
    with pytest.raises(AssertionError):
        test_arguments_outweigh_it(target, advised, ran)
