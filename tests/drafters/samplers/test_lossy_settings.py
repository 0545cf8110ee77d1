"""The lossy-knob guard names what bends the output's law, under every engine's name for it, and lets exact settings pass."""

import pytest
from transformers import GenerationConfig

from drafters.probs import Sampling
from drafters.samplers.lossy_settings import ACCEPTANCE, LossyError, check_acceptance, processors, same_law

LOSSY = {
    "assistant_ensemble_weight": 0.3, "speculative_accept_threshold_single": 0.9, "speculative_accept_threshold_acc": 0.9,
    "rejection_sample_method": "synthetic", "spec_decoding_acceptance_method": "typical_acceptance_sampler",
    "typical_acceptance": True, "posterior_threshold": 0.09, "posterior_alpha": 0.3, "accept_tolerance": 0.1,
    "verifier_accept_k": 2, "lenience": 0.5, "accept_threshold": 0.9, "acceptance_threshold": 0.9, "threshold": 0.7,
}  # fmt: skip


def test_every_knob_has_a_lossy_value_here():
    assert set(LOSSY) == set(ACCEPTANCE)


@pytest.mark.parametrize("name", ACCEPTANCE)
def test_a_relaxed_acceptance_is_refused_and_an_exact_one_is_not(name):
    with pytest.raises(LossyError, match=rf"here: {name}=.* relaxes acceptance.*remove {name}"):
        check_acceptance("here", {name: LOSSY[name]})
    for exact in ACCEPTANCE[name]:
        check_acceptance("here", {name: exact, "num_assistant_tokens": 5})


def test_transformers_own_configuration():
    check_acceptance("target", GenerationConfig().to_dict())
    assert processors(GenerationConfig(do_sample=True, temperature=0.7, top_k=20, top_p=0.9).to_dict()) == {}
    bent = GenerationConfig(repetition_penalty=1.05, no_repeat_ngram_size=3, min_p=0.1, assistant_ensemble_weight=0.2)
    assert processors(bent.to_dict()) == {"repetition_penalty": 1.05, "no_repeat_ngram_size": 3, "min_p": 0.1}
    with pytest.raises(LossyError, match="assistant_ensemble_weight"):
        check_acceptance("target", bent.to_dict())


@pytest.mark.parametrize("verified", [Sampling(0.8), Sampling(1.0, top_k=5), Sampling(1.0, top_p=0.9), Sampling(0.0)])
def test_another_warp_of_the_target_is_lossy(verified):
    assert not same_law(Sampling(1.0), verified)
    assert same_law(verified, verified)
    assert same_law(Sampling(0.0, top_k=5), Sampling(0.0))  # filters keep the likeliest token
