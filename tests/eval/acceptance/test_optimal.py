"""Optimal acceptance against a linear program, against all subsets, and against published numbers."""

import functools
import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.sparse import coo_array
from torch import Tensor

import eval.acceptance.optimal
from eval.acceptance.optimal import optimal_acceptance, race_acceptance
from eval.acceptance.race_ranks import rank_law
from eval.acceptance.verifier_formulas import acceptance_kseq, acceptance_rrs_with_replacement, acceptance_token
from tests.eval.acceptance.enumerated_formulas import acceptance_deterministic, acceptance_rrs_without_replacement

WITH, WITHOUT, GREEDY = SCHEMES = ("with_replacement", "without_replacement", "greedy")
DRAFTS = (1, 2, 3)


def laws(rng: np.random.Generator, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """A random pair over 3 to 6 tokens; `kind` chooses the special case."""
    size = int(rng.integers(3, 7))
    p, q = rng.dirichlet(np.ones(size)), rng.dirichlet(np.ones(size))
    if kind in (1, 3):
        p[rng.permutation(size)[: int(rng.integers(1, size))]] = 0.0
    if kind in (2, 3):
        q[rng.permutation(size)[: int(rng.integers(1, size))]] = 0.0
    if kind == 4:  # ties, in q and in p/q
        p, q = rng.integers(1, 3, size).astype(float), rng.integers(1, 3, size).astype(float)
    if kind == 5:
        q = p.copy()
    if kind == 6:
        p = np.eye(size)[rng.integers(size)]
    if kind == 7:  # a drafter that is all but certain, as language models often are
        q = rng.permutation(10.0 ** -rng.uniform(0, 30, size))
    return p / p.sum(), q / q.sum()


def random_pairs(count: int = 200) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [laws(rng, case % 8) for case in range(count)]


def stacked(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """(cases, 6) each; shorter laws end with tokens that neither model ever says."""
    return tuple(torch.tensor(np.stack([np.pad(pair[i], (0, 6 - len(pair[i]))) for pair in pairs])) for i in (0, 1))


def draft_sets(q: np.ndarray, num_drafts: int, scheme: str) -> dict[int, float]:
    """Law of the set of drafts (bit i = token i), by enumeration."""
    tokens = [i for i in range(len(q)) if q[i] > 0]
    sets: dict[int, float] = {}

    def add(drafts: tuple[int, ...], weight: float) -> None:
        mask = sum(1 << i for i in set(drafts))
        sets[mask] = sets.get(mask, 0.0) + weight

    if scheme == WITH:
        for drafts in itertools.product(tokens, repeat=num_drafts):
            add(drafts, math.prod(q[i] for i in drafts))
    elif scheme == WITHOUT:
        for drafts in itertools.permutations(tokens, min(num_drafts, len(tokens))):
            left, weight = list(tokens), 1.0
            for i in drafts:
                weight *= q[i] / sum(q[j] for j in left)
                left.remove(i)
            add(drafts, weight)
    else:
        top = tuple(sorted(tokens, key=lambda i: (-q[i], i))[: num_drafts - 1])
        rest = [i for i in tokens if i not in top]
        for i in rest:
            add((*top, i), q[i] / sum(q[j] for j in rest))
        if not rest:
            add(top, 1.0)
    return sets


@functools.cache
def enumerated(scheme: str, num_drafts: int) -> list[tuple[np.ndarray, dict[int, float]]]:
    return [(p, draft_sets(q, num_drafts, scheme)) for p, q in random_pairs()]


def by_subsets(p: np.ndarray, sets: dict[int, float]) -> float:
    masks, weights = np.array(list(sets)), np.array(list(sets.values()))
    subsets = np.arange(1 << len(p))
    mass = (subsets[:, None] >> np.arange(len(p)) & 1) @ p
    inside = ((masks & ~subsets[:, None]) == 0) @ weights
    return float(1 + (mass - inside).min())


def by_linear_program(cases: list[tuple[np.ndarray, dict[int, float]]]) -> np.ndarray:
    """Most mass that can be moved from sets of drafts to tokens that they hold and the target wants, per case.

    The cases share no variable and no constraint: one program solves them all.
    """
    room: list[float] = []
    source, sink, owner = [], [], []
    for case, (p, sets) in enumerate(cases):
        first_token = len(room)
        room.extend(p)
        for mask, weight in sets.items():
            for i in (i for i in range(len(p)) if mask >> i & 1):
                source.append(len(room)), sink.append(first_token + i), owner.append(case)
            room.append(weight)
    moves = np.arange(len(owner))
    limits = coo_array((np.ones(2 * len(moves)), (source + sink, np.tile(moves, 2))), (len(room), len(moves))).tocsr()
    strict = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(-np.ones(len(moves)), limits, room, method="highs", options=strict)
    assert found.status == 0, found.message
    return np.bincount(owner, found.x, len(cases))


def check_all_subsets() -> None:
    p, q = stacked(random_pairs())
    for scheme, num_drafts in itertools.product(SCHEMES, (*DRAFTS, 4)):
        found = optimal_acceptance(p, q, num_drafts, scheme)
        expected = [by_subsets(*case) for case in enumerated(scheme, num_drafts)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=f"{scheme}, {num_drafts} drafts")


def wide_pair(vocabulary: int = 1000, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits, noise = torch.randn(2, vocabulary, generator=generator, dtype=torch.float64)
    return (3 * logits).softmax(-1), (3 * logits + noise).softmax(-1)


def check_wide() -> None:
    """Prefix sums of many tokens: as in rational arithmetic, and p = q has optimum 1 to the last bit."""
    p, q = wide_pair(2000)
    order = (p / q).argsort()
    P, Q = (np.array([float(x) for x in exact_sums(law[order].tolist())]) for law in (p, q))
    assert float(optimal_acceptance(p, q, 4, WITH)) == pytest.approx(1 + min(0.0, float((P - Q**4).min())), abs=1e-12)
    for seed in range(20):
        p, _ = wide_pair(5000, seed)
        assert float(optimal_acceptance(p, p, 4, WITH)) == 1.0


def exact_sums(values: list[float]) -> Iterator[float]:
    return map(float, itertools.accumulate(map(Fraction, values)))


def test_equals_the_best_of_all_subsets() -> None:
    check_all_subsets()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("num_drafts", DRAFTS)
def test_equals_the_linear_program(scheme: str, num_drafts: int) -> None:
    expected = by_linear_program(enumerated(scheme, num_drafts))
    found = optimal_acceptance(*stacked(random_pairs()), num_drafts, scheme)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_wide_vocabularies() -> None:
    check_wide()


def fp32_sums(law: Tensor) -> Tensor:
    return law.float().cumsum(-1).double().clamp(max=1.0)


def last_ids_first(q: Tensor, count: int) -> Tensor:
    order = q.flip(-1).argsort(dim=-1, stable=True, descending=True)[..., :count]
    return torch.zeros_like(q, dtype=torch.bool).scatter_(-1, q.shape[-1] - 1 - order, True)


MUTANTS = {
    "sums in fp32": ("prefix_mass", fp32_sums, check_all_subsets),
    "sums in fp32, wide": ("prefix_mass", fp32_sums, check_wide),
    "sums above 1": ("prefix_mass", lambda law: law.cumsum(-1), check_wide),
    "equal tokens in the wrong order": ("top_tokens", last_ids_first, check_all_subsets),
    "descending ratio": ("_by_ratio", lambda p, q: tuple(t.flip(-1) for t in by_ratio(p, q)), check_all_subsets),
    "tokens without ratio first": ("_by_ratio", lambda p, q: by_ratio(p, q + 0 * p / q), check_all_subsets),
}
by_ratio = eval.acceptance.optimal._by_ratio


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_bugs_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attribute, bug, check = MUTANTS[name]
    monkeypatch.setattr(eval.acceptance.optimal, attribute, bug)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("k", DRAFTS)
def test_no_verifier_is_above_its_optimum(k: int) -> None:
    p, q = stacked(random_pairs())
    best = {scheme: optimal_acceptance(p, q, k, scheme) + 1e-12 for scheme in SCHEMES}
    kseq, rho = acceptance_kseq(p, q, k)
    assert (acceptance_rrs_with_replacement(p, q, k) <= best[WITH]).all()
    assert (kseq <= best[WITH]).all()
    assert (kseq >= (1 - math.exp(-1)) * best[WITH] - 1e-11).all()
    assert ((rho >= 1) & (rho <= k)).all()
    assert (acceptance_rrs_without_replacement(p, q, k) <= best[WITHOUT]).all()
    assert (rank_law(p, q, k).sum(-1) <= best[WITHOUT]).all()
    assert (best[WITH] <= best[WITHOUT] + 1e-12).all()
    for scheme in (WITH, WITHOUT):
        assert (best[scheme] <= optimal_acceptance(p, q, k + 1, scheme) + 2e-12).all()


def test_one_draft_is_the_overlap_for_every_scheme() -> None:
    p, q = stacked(random_pairs())
    overlap = 1 - 0.5 * (p - q).abs().sum(-1)
    results = [optimal_acceptance(p, q, 1, scheme) for scheme in SCHEMES]
    results += [acceptance_token(p, q), acceptance_kseq(p, q, 1)[0]]
    results += [acceptance_rrs_with_replacement(p, q, 1), acceptance_rrs_without_replacement(p, q, 1)]
    for result in results:
        torch.testing.assert_close(result, overlap, rtol=0, atol=1e-12)


def test_race_of_one_draft() -> None:
    pairs = random_pairs()
    p, q = stacked(pairs)
    expected = [
        sum(1 / np.maximum(b / b[i], a / a[i]).sum() for i in range(len(a)) if a[i] > 0 and b[i] > 0) for a, b in pairs
    ]
    found = race_acceptance(p, q)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(rank_law(p, q, 1)[:, 0], found, rtol=0, atol=1e-12)
    distance = 0.5 * (p - q).abs().sum(-1)
    assert ((1 - distance) / (1 + distance) <= found + 1e-12).all()
    assert (found <= 1 - distance + 1e-12).all()


def test_limits() -> None:
    p = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    other = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
    disjoint = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    for scheme in SCHEMES:
        for k in (1, 2, 3, 4, 5):
            assert float(optimal_acceptance(p, p, k, scheme)) == pytest.approx(1.0, abs=1e-12)
            assert float(optimal_acceptance(p, disjoint, k, scheme)) == 0.0
    assert float(optimal_acceptance(p, other, 4, WITHOUT)) == pytest.approx(1.0, abs=1e-12)  # everything is drafted
    assert float(race_acceptance(p, disjoint)) == 0.0
    assert float(acceptance_deterministic(p, other, 2)) == 0.25  # ids 3 and 1


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("num_drafts", [1, 2, 4])
def test_names_of_tokens_do_not_matter(scheme: str, num_drafts: int) -> None:
    p, q = wide_pair(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    expected = optimal_acceptance(p, q, num_drafts, scheme)
    assert float(optimal_acceptance(p[order], q[order], num_drafts, scheme)) == pytest.approx(
        float(expected), abs=1e-12
    )
    assert float(race_acceptance(p[order], q[order])) == pytest.approx(float(race_acceptance(p, q)), abs=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("num_drafts", [2, 3])
def test_rows_do_not_see_each_other(scheme: str, num_drafts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [wide_pair(50, seed) for seed in range(6)]
    p, q = (torch.stack([pair[side] for pair in pairs]).reshape(2, 3, 50) for side in (0, 1))
    one_by_one = torch.stack([optimal_acceptance(*pair, num_drafts, scheme) for pair in pairs]).reshape(2, 3)
    monkeypatch.setattr(eval.acceptance.optimal, "CHUNK", 200)  # four rows at a time
    found = optimal_acceptance(p, q, num_drafts, scheme)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, one_by_one, rtol=0, atol=1e-14)
    assert optimal_acceptance(p[:, :0], q[:, :0], num_drafts, scheme).shape == (2, 0)


def test_fp32_laws_are_taken_as_they_are() -> None:
    p, q = (law.float() for law in wide_pair(20_000))
    exact = optimal_acceptance(p.double() / p.double().sum(), q.double() / q.double().sum(), 3, WITH)
    assert float(optimal_acceptance(p, q, 3, WITH)) == pytest.approx(float(exact), abs=1e-12)


GOOD = torch.tensor([0.5, 0.5])


@pytest.mark.parametrize(
    ("p", "q", "num_drafts", "scheme", "message"),
    [
        (GOOD, torch.tensor([1.0]), 1, WITH, r"same shape .* got \(2,\) and \(1,\)"),
        (torch.ones(0), torch.ones(0), 1, WITH, "V > 0"),
        (GOOD, torch.tensor([0.5, 0.4]), 1, WITH, r"q must be laws .* sum 0\.9"),
        (torch.tensor([1.5, -0.5]), GOOD, 1, WITH, r"p must be laws .* minimum -0\.5"),
        (torch.tensor([float("nan"), 1.0]), GOOD, 1, GREEDY, "p must be laws"),
        (torch.stack([GOOD, 2 * GOOD]), torch.stack([GOOD, GOOD]), 1, WITH, r"row \(1,\) of \(2,\)"),
        (GOOD, GOOD.bfloat16(), 1, WITH, "float32 or float64, got torch.bfloat16"),
        (GOOD, GOOD, 0, WITHOUT, "num_drafts must be at least 1, got 0"),
        (GOOD, GOOD, 1, "replacement", "with_replacement, without_replacement, greedy, got 'replacement'"),
    ],
)
def test_refuses(p: Tensor, q: Tensor, num_drafts: int, scheme: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimal_acceptance(p, q, num_drafts, scheme)
