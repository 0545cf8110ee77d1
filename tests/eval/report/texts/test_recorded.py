"""Who wrote a token is what the verifier decided, and p and q are those of models that read the text without a cache."""

import copy
import itertools
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch

from drafters.engine.decode import speculative
from drafters.engine.limits import Limits
from drafters.engine.transformers_pair import TransformersPair
from drafters.models.forms import pruned_form
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.stop.policies.static import Static
from drafters.vocab.alignment import identity, restrict
from eval.report.texts.recorded import DraftNotes, Recorder, origins, refusals
from eval.report.texts.spelled import TokenNames
from eval.run.configurations import Drafter, applicable, reference
from eval.run.records import PACKAGE, UNPRUNED
from eval.run.trials import Task
from tests.eval.conftest import VOCABULARY

KEPT = torch.tensor([0, *range(2, VOCABULARY, 2)])
NAMES = TokenNames([bytes([97 + number]) for number in range(VOCABULARY)], [None] * VOCABULARY)
PROMPTS = [torch.tensor([3, number, 8]) for number in range(8)]


def every_round(longest):
    """(round, who writes what it commits) of all rounds of at most so many drafts."""
    for drafted in range(longest + 1):
        for accepted in range(drafted + 1):
            last = "plain" if not drafted else "bonus" if accepted == drafted else "correction"
            yield (drafted, accepted + (accepted < drafted), accepted), ["accepted"] * accepted + [last]


def test_origins_of_all_short_texts():
    """All texts of up to three rounds, with an end behind the last round and one behind each of its accepted drafts."""
    checked = 0
    for count in (1, 2, 3):
        for chosen in itertools.product(every_round(2), repeat=count):
            rounds, who = [kind for kind, _ in chosen], [name for _, names in chosen for name in names]
            assert origins(rounds, len(who)) == who
            (drafted, _, accepted), names = chosen[-1]
            for cut in range(
                1, accepted + 1
            ):  # then no draft was refused, and the target's own token did not come to be
                ended = [*rounds[:-1], (drafted, cut, cut)]
                assert origins(ended, len(who) - len(names) + cut) == who[: len(who) - len(names)] + ["accepted"] * cut
            checked += 1
    assert checked == 6 + 36 + 216


@pytest.mark.parametrize("tokens", [3, 6])
def test_rounds_that_write_another_number_of_tokens_are_refused(tokens):
    with pytest.raises(ValueError, match=f"write .* tokens, expected {tokens}"):
        origins([(2, 2, 1), (2, 2, 2)], tokens)


def test_refused_drafts_stand_where_their_corrections_do():
    assert refusals([(2, 2, 1), (2, 2, 2), (0, 0, 0), (1, 1, 0)], [[5, 6], [7, 8], [], [9]]) == {1: 6, 6: 9}


@dataclass
class Spy(DraftNotes):
    """Notes what it decides."""

    verdicts: list[list[str]] = field(default_factory=list)  # who writes what each round commits
    refused: list[int | None] = field(default_factory=list)

    def verify(self, p, draft, coins, key):
        verdict = super().verify(p, draft, coins, key)
        accepted, chain = int(verdict.accepted[0]), self.chains[-1]
        whole = accepted == len(chain)
        self.verdicts.append(["accepted"] * accepted + ["plain" if not chain else "bonus" if whole else "correction"])
        self.refused += [*[None] * accepted, None if whole else chain[accepted]]
        return verdict


@pytest.fixture(scope="module")
def drafter(target):
    """Near enough to the target that drafts are accepted, and rounds as a whole, at temperature 0, too."""
    model = copy.deepcopy(target)
    noise = torch.randn(VOCABULARY, 16, generator=torch.Generator().manual_seed(0))
    model.get_output_embeddings().weight.add_(0.15 * noise)
    return model


@pytest.fixture(scope="module")
def drafters(target, drafter):
    pruned = TransformersPair(target, pruned_form(drafter, KEPT), eos=(0,))
    every = [
        Drafter(UNPRUNED, TransformersPair(target, drafter, eos=(0,)), identity(VOCABULARY)),
        Drafter(PACKAGE, pruned, restrict(identity(VOCABULARY), KEPT)),
    ]
    return [(item, applicable(reference(item), item)) for item in every]


def answers(drafters, heat, prompts=PROMPTS):
    recorder = Recorder(drafters, NAMES, seed=4)
    limits = Limits(20, Sampling(heat))
    return [
        recorder.answer(Task(number, f"p{number}", prompt), "asked", Static(2), limits)
        for number, prompt in enumerate(prompts)
    ]


@pytest.fixture(scope="module")
def recorded(drafters):
    """Heat -> answers."""
    return {heat: answers(drafters, heat) for heat in (0.0, 1.0)}


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_origins_are_the_verdicts(drafters, recorded, heat):
    """The verdicts are noted by another verifier, in a run of its own with the same coins."""
    (package, sampler), met = drafters[1], Counter()
    for number, answer in enumerate(recorded[heat]):
        spy = Spy(sampler.verifier)
        coins = KeyedCoins(4, torch.tensor([number]))
        watched = replace(sampler, verifier=spy)
        limits = Limits(20, Sampling(heat))
        decoded = speculative(package.pair, watched, Static(2), [PROMPTS[number]], coins, limits)
        plain = speculative(package.pair, sampler, Static(2), [PROMPTS[number]], coins, limits)
        count = len(decoded.tokens[0])
        assert [token.id for token in answer.tokens] == decoded.tokens[0].tolist() == plain.tokens[0].tolist()
        assert answer.rounds == len(spy.verdicts)
        assert [token.origin for token in answer.tokens] == [who for whos in spy.verdicts for who in whos][:count]
        refused = [token.rejected and token.rejected.id for token in answer.tokens]
        assert refused == spy.refused[:count]
        met.update(token.origin for token in answer.tokens)
    assert min(met[who] for who in ("accepted", "correction", "bonus")) >= 5  # two that were swapped would be noticed
    assert met["plain"] >= 1


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_what_has_no_row_is_never_drafted_and_a_correction_is_another_token(recorded, heat):
    kept, lost = set(KEPT.tolist()), 0
    for token in (token for answer in recorded[heat] for token in answer.tokens):
        assert token.sayable == (token.id in kept)
        assert token.sayable or token.origin != "accepted"
        assert (token.q[PACKAGE] > 0) == token.sayable
        assert token.rejected is None or (token.rejected.id in kept and token.rejected.id != token.id)
        lost += not token.sayable
    assert lost >= 5


@pytest.mark.parametrize(("heat", "shown"), [(0.0, 1.0), (0.5, 0.5), (1.0, 1.0)])
def test_probabilities_are_those_of_one_uncached_forward(drafters, recorded, target, drafter, heat, shown):
    for answer in recorded.get(heat) or answers(drafters, heat, PROMPTS[:3]):
        new = [token.id for token in answer.tokens]
        whole = torch.cat([PROMPTS[int(answer.prompt[1:])], torch.tensor(new)])[None, :-1]
        p, q = (model(input_ids=whole).logits[0, 2:].div(shown).softmax(-1) for model in (target, drafter))
        pruned = torch.zeros_like(q)
        pruned[:, KEPT] = q[:, KEPT] / q[:, KEPT].sum(-1, keepdim=True)
        for place, token in enumerate(answer.tokens):
            assert token.p == pytest.approx(float(p[place, token.id]), rel=1e-3, abs=1e-6)
            assert token.q[UNPRUNED] == pytest.approx(float(q[place, token.id]), rel=1e-3, abs=1e-6)
            assert token.q[PACKAGE] == pytest.approx(float(pruned[place, token.id]), rel=1e-3, abs=1e-6)
            if token.rejected is not None:
                assert token.rejected.p == pytest.approx(float(p[place, token.rejected.id]), rel=1e-3, abs=1e-6)
                assert token.rejected.q == pytest.approx(float(pruned[place, token.rejected.id]), rel=1e-3, abs=1e-6)


def test_behind_the_drafters_context_nothing_is_drafted_and_nothing_is_known_of_q(drafters, target, drafter):
    short = copy.copy(drafter)
    short.config = copy.deepcopy(drafter.config)
    short.config.max_position_embeddings = 12
    unpruned, (package, sampler) = drafters
    pruned = pruned_form(short, KEPT)
    small = replace(package, pair=TransformersPair(target, pruned, eos=(0,)))
    found = max(answers([unpruned, (small, sampler)], 1.0, PROMPTS[:4]), key=lambda answer: len(answer.tokens)).tokens
    assert len(found) > 12
    assert {token.origin for token in found[12:]} == {"plain"}
    assert all((PACKAGE in token.q) == (place <= 9) for place, token in enumerate(found))  # 3 + 9 tokens are read
    assert all(UNPRUNED in token.q for token in found)
