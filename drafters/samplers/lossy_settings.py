"""Refuses, by name, settings that make speculative decoding emit another distribution than the target's.

Lossy is: a target distribution p that is warped differently from plain decoding's, a drafter distribution q kept for
verification that is not the one drawn from, or a relaxed acceptance test. Each engine has its own names for these; they
are listed here so that a setting carried over from one of them is neither silently ignored nor silently obeyed. A warp
of the drafter's own distribution is exact and fine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import GenerationConfig

from drafters.errors import DraftersError
from drafters.probs import Sampling

# Knob -> its values under which acceptance is exact.
ACCEPTANCE: dict[str, tuple[object, ...]] = {
    "assistant_ensemble_weight": (None, 0.0),  # transformers: verifies against a mixture of both distributions
    "speculative_accept_threshold_single": (None, 1.0),  # SGLang
    "speculative_accept_threshold_acc": (None, 1.0),
    "rejection_sample_method": (None, "strict", "standard", "probabilistic", "block"),  # vLLM; "synthetic" is lossy
    "spec_decoding_acceptance_method": (None, "rejection_sampler"),  # vLLM: or typical_acceptance_sampler
    "typical_acceptance": (None, False),  # Medusa
    "posterior_threshold": (None,),
    "posterior_alpha": (None,),
    "accept_tolerance": (None, 0.0),  # speculators
    "verifier_accept_k": (None, 1),
    "lenience": (None, 1.0),  # Leviathan et al. 2023, appendix A.5
    "accept_threshold": (None, 1.0),
    "acceptance_threshold": (None, 1.0),
    "threshold": (None, 1.0),
}
# transformers' names of what else bends p, and the values that do not.
PROCESSORS: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(
        ("repetition_penalty", "encoder_repetition_penalty", "typical_p", "diversity_penalty"), (None, 0.0, 1.0)
    ),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length"), (None, 0)),
    **dict.fromkeys(("min_p", "top_h", "epsilon_cutoff", "eta_cutoff", "min_new_tokens"), (None, 0, 0.0)),
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias"), (None, [], {})),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"), (None,)),
    "guidance_scale": (None, 1, 1.0),
    "num_beams": (None, 1),
    "watermarking_config": (None,),
}


class LossyError(DraftersError):
    """A setting under which the output would not have the target's distribution."""


def relaxed(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that relax the acceptance test, whichever engine's name they go by."""
    return _bent(settings, ACCEPTANCE)


def processors(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings, by transformers' names, that change p beyond temperature, top-k and top-p."""
    return _bent(settings, PROCESSORS)


def check_acceptance(where: str, settings: Mapping[str, object]) -> None:
    """Raise LossyError for a relaxed acceptance test; `where` names what holds the settings."""
    for name, value in relaxed(settings).items():
        exact = " or ".join("unset" if item is None else repr(item) for item in ACCEPTANCE[name])
        raise LossyError(
            f"{where}: {name}={value!r} relaxes acceptance, so that the output has another law than the target's; "
            f"expected {exact}: remove {name}"
        )


def check_processors(settings: Mapping[str, object]) -> None:
    """Raise LossyError where a target's generation config changes p by what is not applied here; says how to leave it out."""
    if bent := processors(settings):
        named = ", ".join(f"{name}={value!r}" for name, value in bent.items())
        unset = "; ".join(f"target.generation_config.{name} = None" for name in bent)
        raise LossyError(
            f"the target's generation config has {named}, which plain decoding elsewhere would apply and this engine does not; "
            f"expected it unset. In Python: {unset}; in a run: pair.unset=[{','.join(bent)}]"
        )


def leave_out(config: GenerationConfig | None, names: Sequence[str]) -> dict[str, object]:
    """Unset these settings of a generation config (None: there is none), and return those that changed p.

    Raises LossyError for a name that is none of PROCESSORS.
    """
    if unknown := [name for name in names if name not in PROCESSORS]:
        raise LossyError(f"pair.unset: expected some of {', '.join(PROCESSORS)}, got {unknown[0]!r}")
    bent = (
        {} if config is None else {name: value for name, value in processors(config.to_dict()).items() if name in names}
    )
    for name in bent:
        setattr(config, name, None)
    return bent


def same_law(plain: Sampling, verified: Sampling) -> bool:
    """Whether both make the same distribution of the same logits: filters do not matter to greedy decoding."""
    return verified == plain or (verified.greedy and plain.greedy)


def _bent(settings: Mapping[str, object], exact: Mapping[str, tuple[object, ...]]) -> dict[str, object]:
    return {name: value for name, value in sorted(settings.items()) if name in exact and value not in exact[name]}
