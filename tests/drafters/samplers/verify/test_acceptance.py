"""Acceptance of the verifiers, from their own code with every branch taken: the published tables, the optima, the inequalities."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from drafters.samplers.tree.siblings import OneDrawnThenTop, Siblings, WithoutReplacement, WithReplacement
from drafters.samplers.verify.block import Block
from drafters.samplers.verify.greedy import Greedy
from drafters.samplers.verify.kseq import KSeq, solve_rho
from drafters.samplers.verify.rejection import Rejection
from drafters.samplers.verify.rrs import RRS
from drafters.samplers.verify.traversal import Traversal
from eval.acceptance.optimal import optimal_acceptance
from eval.lossless.exact.one_round import one_round, random_laws

LAWS = {
    "A": ((0.5, 0.3, 0.2), (0.2, 0.3, 0.5)),
    "B": ((0.618, 0.354, 0.028), (0.373, 0.58, 0.047)),
    "C": ((0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)),
    "D": ((0.7, 0.1, 0.1, 0.05, 0.05), (0.3, 0.3, 0.2, 0.1, 0.1)),
    "E": ((0.05, 0.05, 0.1, 0.2, 0.25, 0.35), (0.4, 0.25, 0.15, 0.1, 0.06, 0.04)),
    "F": ((0.5, 0.5, 0.0, 0.0), (0.25, 0.25, 0.25, 0.25)),
    "G": ((0.469, 0.124, 0.407), (0.201, 0.275, 0.524)),
    "H": ((0.148, 0.042, 0.745, 0.05, 0.015), (0.496, 0.136, 0.151, 0.008, 0.209)),
}
# case, children: greedy, RRS with, RRS without replacement, K-SEQ, its rho
ONE_NODE = {
    ("A", 1): (0.7, 0.7, 0.7, 0.7, 1.0),
    ("A", 2): (0.9, 0.76, 0.82, 0.79135529, 1.456776),
    ("A", 3): (1.0, 0.808, 1.0, 0.85851861, 1.792593),
    ("B", 1): (0.755, 0.755, 0.755, 0.755, 1.0),
    ("B", 2): (1.0, 0.846385, 0.96314604, 0.88273179, 1.342444),
    ("B", 3): (1.0, 0.9036834, 1.0, 0.94729016, 1.515523),
    ("C", 1): (0.6, 0.6, 0.6, 0.6, 1.0),
    ("C", 2): (0.76666667, 0.72, 0.76428571, 0.75, 1.5),
    ("C", 3): (0.93333333, 0.768, 0.84029762, 0.79394997, 1.9395),
    ("D", 2): (1.0, 0.72, 0.75654762, 0.75, 1.5),
    ("D", 3): (1.0, 0.804, 0.88297619, 0.84657818, 1.821927),
    ("E", 1): (0.4, 0.4, 0.4, 0.4, 1.0),
    ("E", 2): (0.53333333, 0.52, 0.58176471, 0.53620499, 1.681025),
    ("E", 3): (0.68571429, 0.608, 0.69681606, 0.62423437, 2.242344),
    ("F", 2): (0.83333333, 0.75, 0.83333333, 0.75, 1.5),
    ("F", 3): (1.0, 0.875, 1.0, 0.875, 1.75),
    ("G", 2): (0.95326891, 0.785868, 0.82326891, 0.81779727, 1.426852),
    ("G", 3): (1.0, 0.82890853, 1.0, 0.88002755, 1.736455),
    ("H", 2): (0.52047619, 0.465124, 0.53008053, 0.47878987, 1.721949),
    ("H", 3): (0.74398305, 0.55016928, 0.75093256, 0.57372211, 2.319007),
}
VERIFIERS = {"greedy": Greedy(), "rrs": RRS(), "rrs_wor": RRS(WithoutReplacement()), "kseq": KSeq()}
SCHEMES = {
    "greedy": "greedy",
    "rrs": "with_replacement",
    "rrs_wor": "without_replacement",
    "kseq": "with_replacement",
}


def laws_of(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    p, q = LAWS[case]
    return torch.tensor([p], dtype=torch.float64), torch.tensor([q], dtype=torch.float64)


@dataclass(frozen=True)
class Certain:
    """The likeliest tokens as children (EAGLE-2): what OneDrawnThenTop does after its first."""

    mixed: OneDrawnThenTop = field(default_factory=OneDrawnThenTop)

    def draw(self, q, coins, key, count):
        return self.mixed.draw(q, coins, key.at(position=torch.full_like(key.position, -1)), count + 1)[:, 1:]

    def laws(self, q, tokens):
        for token in tokens.unbind(1):
            yield torch.zeros_like(q).scatter_(1, token.clamp(min=0).unsqueeze(1), 1.0)


@pytest.mark.parametrize(("case", "children"), ONE_NODE)
def test_one_node(case, children):
    p, q = laws_of(case)
    *accepted, rho = ONE_NODE[case, children]
    for (name, verifier), expected in zip(VERIFIERS.items(), accepted, strict=True):
        outcome = one_round(verifier, (children,), p, q)
        assert outcome.expected == pytest.approx(expected, abs=1e-8), name
        assert (outcome.law(1) - p[0]).abs().max() <= 1e-14, name
    assert float(solve_rho(p, q, torch.tensor([children]))) == pytest.approx(rho, abs=1e-6)


CHAINS = {
    "A": ((0.7, 1.19, 1.533, 1.7731), (0.7, 1.25, 1.695, 2.0635)),
    "C": ((0.6, 0.96, 1.176, 1.3056), (0.6, 1.03, 1.346, 1.5894)),
    "E": ((0.4, 0.56, 0.624, 0.6496), (0.4, 0.621, 0.75065, 0.830543)),
}


@pytest.mark.parametrize("case", CHAINS)
def test_chains(case):
    p, q = laws_of(case)
    for length in (1, 2, 3, 4) if p.shape[1] < 6 else (1, 2, 3):
        token, block = (column[length - 1] for column in CHAINS[case])
        for verifier, expected in ((Rejection(), token), (Block(), block), (RRS(), token), (Traversal(), block)):
            if not (length == 4 and case == "C" and verifier.tree):  # as many branches as the others together
                assert one_round(verifier, (1,) * length, p, q).expected == pytest.approx(expected, abs=1e-6)


def test_the_example_of_the_block_paper():
    p, q = torch.tensor([[1 / 3, 2 / 3]]).double(), torch.tensor([[2 / 3, 1 / 3]]).double()
    assert one_round(Rejection(), (1, 1), p, q).expected == pytest.approx(10 / 9, abs=1e-7)
    assert one_round(Block(), (1, 1), p, q).expected == pytest.approx(11 / 9, abs=1e-7)


# siblings: RRS and traversal on the complete binary tree of depth 2
BINARY: dict[str, tuple[Siblings, dict[str, tuple[float, float]]]] = {
    "with": (WithReplacement(), {"A": (1.3376, 1.3856), "C": (1.2384, 1.2874)}),
    "without": (WithoutReplacement(), {"A": (1.4924, 1.5284), "C": (1.348418, 1.398929)}),
    "certain": (Certain(), {"A": (0.75, 0.75), "C": (0.39, 0.39)}),
    "mixed": (OneDrawnThenTop(), {"A": (1.71, 1.76), "C": (1.354444, 1.43)}),
}


@pytest.mark.parametrize("case", ["A", "C"])
@pytest.mark.parametrize("siblings", BINARY)
def test_binary_trees(siblings, case):
    rule, expected = BINARY[siblings]
    p, q = laws_of(case)
    for verifier, value in zip((RRS(rule), Traversal(rule)), expected[case], strict=True):
        assert one_round(verifier, (2, 2), p, q).expected == pytest.approx(value, abs=1e-6)


def random_pair(seed: int, vocabulary: int, depth: int, zeros: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(random_laws(vocabulary, depth, generator, zeros) for _ in range(2))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("siblings", ["with", "without", "mixed"])
def test_traversal_is_at_least_recursive_rejection(siblings, seed):
    rule = BINARY[siblings][0]
    p, q = random_pair(seed, 3, 2)
    one_by_one, traversal = (one_round(verifier, (2, 2), p, q) for verifier in (RRS(rule), Traversal(rule)))
    assert traversal.expected >= one_by_one.expected - 1e-14


@pytest.mark.parametrize("seed", range(3))
def test_traversal_of_certain_children_is_recursive_rejection(seed):
    p, q = random_pair(100 + seed, 3, 2)
    one_by_one, traversal = (one_round(verifier, (2, 2), p, q) for verifier in (RRS(Certain()), Traversal(Certain())))
    assert traversal.expected == pytest.approx(one_by_one.expected, abs=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_block_is_at_least_token_by_token(seed):
    p, q = random_pair(200 + seed, 3, 3)
    token, block, traversal = (one_round(verifier, (1, 1, 1), p, q) for verifier in (Rejection(), Block(), Traversal()))
    assert block.expected >= token.expected - 1e-14
    assert traversal.expected == pytest.approx(block.expected, abs=1e-14)


@pytest.mark.parametrize("children", [1, 2, 3])
@pytest.mark.parametrize("name", VERIFIERS)
def test_never_above_the_optimum_of_its_draft_law(name, children):
    for seed in range(12):
        p, q = random_pair(300 + seed, 4, 0, zeros=0.3)
        accepted = one_round(VERIFIERS[name], (children,), p, q).expected
        best = float(optimal_acceptance(p[0], q[0], children, SCHEMES[name]))
        assert accepted <= best + 1e-12
        if name == "greedy" or children == 1:
            assert accepted == pytest.approx(best, abs=1e-12)
        if name == "kseq":
            assert accepted >= (1 - 1 / math.e) * best - 1e-12


def test_traversal_accepts_at_the_root_as_greedy_does():
    p, q = random_pair(400, 4, 0, zeros=0.0)
    assert one_round(Traversal(), (3,), p, q).expected == pytest.approx(one_round(Greedy(), (3,), p, q).expected)


class TopFirst(OneDrawnThenTop):
    """Tests the certain children before the drawn one: lossless, and worse."""

    def draw(self, q, coins, key, count):
        return super().draw(q, coins, key, count).roll(-1, 1)

    def laws(self, q, tokens):
        first, *certain = super().laws(q, tokens.roll(1, 1))
        yield from certain
        yield first


def test_testing_the_certain_children_first_is_lossless_and_below_the_optimum():
    p, q = laws_of("C")
    for children in (2, 3):
        best = float(optimal_acceptance(p[0], q[0], children, "greedy"))
        assert one_round(Greedy(), (children,), p, q).expected == pytest.approx(best, abs=1e-12)
        mutant = one_round(Greedy(TopFirst()), (children,), p, q)
        assert (mutant.law(1) - p[0]).abs().max() <= 1e-14
        assert mutant.expected <= best - 1e-3
