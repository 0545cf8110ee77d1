"""Rejection and exact match on given coins: paths, misses, absent nodes, rows without a decision, strictness."""

import torch

from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.draft import ABSENT, MISS, ROOT, Draft, DrawnLaws
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.rejection import Rejection

V = 4


class Fixed(KeyedCoins):
    """Coins of one given value."""

    def __init__(self, value, rows):
        super().__init__(0, torch.arange(rows))
        self.value = value

    def uniform(self, key):
        return torch.full(
            torch.broadcast_shapes(key.position.shape, self.requests.shape + (1,) * (key.position.ndim - 1)), self.value
        ).double()


def draft_of(tokens, parents, q):
    """A chain whose token m was drawn from q[m], (B, V) each."""
    tokens, parents, laws = torch.tensor(tokens), torch.tensor(parents), DrawnLaws(Identity())
    for node, law in enumerate(q):
        drawn = tokens[:, node]
        laws.open(law)
        laws.append(law.gather(1, drawn.clamp(min=0).unsqueeze(1))[:, 0] * (drawn >= 0))
    return Draft(tokens, parents, laws)


def one_hot(*tokens):
    return torch.eye(V, dtype=torch.float64)[list(tokens)]


def key(*positions):
    position = torch.tensor(positions)
    return Key(position, position.clamp(min=0), "draft")


UNIFORM = torch.full((1, V), 0.25, dtype=torch.float64)


def test_rejection_ends_at_the_first_failure_and_draws_from_the_residual():
    q = [torch.tensor([[0.5, 0.5, 0.0, 0.0]]).double(), UNIFORM, UNIFORM]
    draft = draft_of([[0, 1, 2]], [[ROOT, 0, 1]], q)
    p = torch.stack([one_hot(0), one_hot(3), UNIFORM, UNIFORM], 1)  # token 1 is impossible where it was drafted
    for coin in (0.0, 0.999):
        verdict = Rejection().verify(p, draft, Fixed(coin, 1), key(5))
        assert verdict.nodes.tolist() == [[0, -1, -1]]
        assert (int(verdict.accepted), int(verdict.next_token)) == (1, 3)


def test_a_wholly_accepted_chain_gets_a_bonus_token():
    draft = draft_of([[0, 1]], [[ROOT, 0]], [UNIFORM, UNIFORM])
    verdict = Rejection().verify(torch.stack([one_hot(0), one_hot(1), one_hot(2)], 1), draft, Fixed(0.999, 1), key(5))
    assert verdict.nodes.tolist() == [[0, 1]]
    assert int(verdict.next_token) == 2


def test_a_miss_is_rejected_and_its_law_taken_away():
    law = torch.tensor([[0.5, 0.25, 0.0, 0.0]]).double()  # a quarter of the mass is a miss
    draft = draft_of([[MISS]], [[ROOT]], [law])
    p = torch.tensor([[0.5, 0.25, 0.25, 0.0]]).double()
    for coin in (0.0, 0.5, 0.999):
        verdict = Rejection().verify(torch.stack([p, UNIFORM], 1), draft, Fixed(coin, 1), key(5))
        assert (int(verdict.accepted), int(verdict.next_token)) == (0, 2)  # not p: only token 2 lacks mass


def test_rows_of_different_lengths_and_a_row_at_rest():
    draft = draft_of(
        [[0, 1], [2, MISS], [MISS, MISS]], [[ROOT, 0], [ROOT, ABSENT], [ABSENT, ABSENT]], [UNIFORM.expand(3, V)] * 2
    )
    p = torch.stack([one_hot(0, 2, 3), one_hot(1, 3, 3), one_hot(2, 0, 0)], 1)
    for verifier in (Rejection(), ExactMatch()):
        verdict = verifier.verify(p, draft, Fixed(0.0, 3), key(5, 9, -1))
        assert verdict.accepted.tolist() == [2, 1, 0]
        assert verdict.nodes.tolist() == [[0, 1], [0, -1], [-1, -1]]
        assert verdict.next_token[:2].tolist() == [2, 3]  # the second row's token comes from its own last row


def test_a_round_without_drafts_is_a_plain_step():
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    draft = Draft(nothing, nothing, DrawnLaws(Identity()))
    for verifier in (Rejection(), ExactMatch()):
        verdict = verifier.verify(one_hot(3).unsqueeze(1), draft, Fixed(0.5, 1), key(5))
        assert (int(verdict.accepted), int(verdict.next_token)) == (0, 3)
        assert verdict.nodes.shape == (1, 0)


def test_exact_match_emits_the_targets_own_sample():
    draft = Draft(torch.tensor([[0, 1, 2]]), torch.tensor([[ROOT, 0, 1]]), None)
    p = torch.stack([one_hot(0), one_hot(3), one_hot(2), one_hot(1)], 1)
    verdict = ExactMatch().verify(p, draft, Fixed(0.3, 1), key(5))
    assert verdict.nodes.tolist() == [[0, -1, -1]]
    assert int(verdict.next_token) == 3
