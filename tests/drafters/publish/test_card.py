"""The card says what is in the files beside it, and huggingface_hub reads it."""

import pytest
from huggingface_hub import ModelCard

from drafters.package.recommendation import advice
from drafters.package.recommendation.choices import Rated
from drafters.package.writer import Origin, describe
from drafters.publish.card import CardFacts, render
from drafters.publish.licences import Licence, inherit


def row(sampler, temperature, speed, drafter="package", rate=0.5):
    return {
        "sampler": sampler, "temperature": temperature, "drafter": drafter if sampler else None,
        "acceptance_rate": rate, "acceptance_rate_low": rate - 0.1, "acceptance_rate_high": rate + 0.1,
        "block_efficiency": 2.5, "tokens_per_second": 70.0 * speed, "speedup_vs_autoregressive": speed,
    }  # fmt: skip


REPORT = {
    "device": "cpu", "dtype": "fp32", "threads": 2, "prompts": {"suite": "pycode", "count": 4, "max_new_tokens": 48, "repeats": 1},
    "costs": {"t": 0.0125, "d_pruned": 0.00166},
    "rows": [row(None, 0.0, 1.0), row("standard", 0.0, 9.0, "unpruned"), row("tli", 0.0, 1.3), row("race", 0.0, 1.1)],
}  # fmt: skip
CERTIFICATE = {
    "code": "c" * 64,
    "samplers": {"tli": {"status": "exact", "exact_error": 3e-16}, "new": {"status": "failed"}},
}


def facts(**changes) -> CardFacts:
    description = describe(
        "pair", Origin("Org/Target-7B", "a" * 40, "mit", 48), Origin("Org/Draft-0.5B", "b" * 40, "mit", 48),
        kept=9, foreign=False, eos=(2,), coverage=0.9,
    )  # fmt: skip
    values = {
        "repository": "me/pair-drafter", "description": description, "licence": Licence("mit"), "tag": "v1-abc",
        "report": REPORT, "certificate": CERTIFICATE, **changes,
    }  # fmt: skip
    return CardFacts(**values)


def test_metadata_round_trip():
    data = ModelCard(render(facts())).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "transformers", "text-generation")
    assert (data.base_model, data.base_model_relation) == ("Org/Draft-0.5B", "finetune")
    assert {"speculative-decoding", "draft-model", "target-target-7b"} <= set(data.tags)
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "acceptance_rate": 0.5,
        "block_efficiency": 2.5,
        "speedup_vs_autoregressive": 1.3,  # the fastest of the package's, not the unpruned drafter's
    }


def test_a_local_drafter_is_no_base_model():
    description = dict(
        facts().description, drafter={**facts().description["drafter"], "revision": "sha256:" + "a" * 64}
    )
    assert ModelCard(render(facts(description=description))).data.base_model is None


def test_named_licences_are_in_the_metadata():
    licence = inherit("other", "text", own_name="qwen-research", link="LICENSE")
    text = render(facts(licence=licence))
    data = ModelCard(text).data
    assert (data.license, data.license_name, data.license_link) == ("other", "qwen-research", "LICENSE")
    assert "qwen-research apply" in text


def test_the_numbers_stand_in_the_text():
    text = render(facts())
    for part in (
        "9 of the 48 rows", "90.0%", "| 0 | tli | 0.50 (0.40-0.60) | 2.50 | 91.0 | 1.30 |", "3.0e-16", "Not certified: new",
        'drafters.load("me/pair-drafter"', "12.50 ms", "tag v1-abc", "make export",
    ):  # fmt: skip
        assert part in text, part
    assert "| 0 | standard" not in text, "the unpruned drafter is not in this repository"


@pytest.mark.parametrize("missing", ["report", "certificate"])
def test_what_is_missing_is_said(missing):
    text = render(facts(**{missing: None}))
    assert {"report": "Not measured.", "certificate": "No certificate was given"}[missing] in text


def test_what_to_use(tools):
    text = render(facts(recommendation=tools.recommend("a" * 64)))
    for part in (
        "## What to use", "on cpu in fp32 with 2 threads, prompts of pycode", "| 0 | tli | package | 5 | 1.60 (1.50-1.70) | 1.60 | 12 |",
        "| 1, top_k = 5, top_p = 0.9 | (plain decoding) | - | - | 1.00 | - | 12 |", "- T = 0: It is the fastest.",
        "decodes so on such a device", "generate(target, package, ids, temperature=1)",
    ):  # fmt: skip
        assert part in text, part
    assert "What to use" not in render(facts())
    assert 'sampler="tli", stop="static", temperature=1)' in render(facts())


def test_a_package_that_borrows_is_loaded_with_its_target():
    assert "borrowed.json" not in render(facts())
    text = render(facts(borrows=True))
    assert "revision=COMMIT, target=target)" in text
    assert "`borrowed.json` names them" in text


def test_a_domain_that_is_hardly_covered_is_a_limit():
    assert "of the domain" not in render(facts())
    description = facts().description | {"least_covered": {"domain": "greek", "coverage": 0.617}}
    assert "Of text of the domain greek it covers 61.7% only." in render(facts(description=description))


def test_where_nothing_beats_plain_decoding_the_card_says_so(tools):
    plain = tools.recommend("a" * 64).choices[1]
    assert "Nothing beat plain decoding there" in render(
        facts(recommendation=tools.recommend("a" * 64, choices=(plain,)))
    )


def test_an_interval_around_one_is_put_into_words(tools):
    unclear = Rated(**tools.rated(tools.tree, 1.05, by="model"))
    assert advice.gain(unclear) == "1.05 (0.95-1.15), not measured, no difference shown"
    assert advice.sampler(tools.tree).startswith("race_tree (branching=[3, [2, 0, 1]], nodes=15, rank_law=")
