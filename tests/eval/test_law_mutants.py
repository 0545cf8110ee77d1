"""Planted bugs that the exact law must show, each by more than a million times the tolerance of the clean code."""

from dataclasses import replace

import pytest
import torch

import drafters.engine.decode as decode
import drafters.samplers.verify.rejection as rejection
from drafters.engine.limits import Limits
from drafters.probs import Sampling, residual, warp
from drafters.samplers.catalog import build
from drafters.samplers.draft import ABSENT, MISS, Draft, DrawnLaws, Sampler, Verdict
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.rejection import Rejection
from drafters.stop.static import Static
from eval.law import exact_law, reference_law, total_variation
from eval.tables import TableModel, foreign_pair, full_pair

CLEAN, WRONG = 1e-12, 1e-3
PAIR = full_pair(3, 60, eos=(2,))
PROMPT = [0, 1]


def error(sampler=None, pair=PAIR, limits=None, length=2) -> float:
    limits = limits or Limits(3)
    sampler = sampler or build("standard", pair.vocab)
    law = exact_law(sampler, lambda: Static(length), pair, PROMPT, limits)
    return total_variation(law, reference_law(pair, PROMPT, limits))


# --- verification ---


class ReversedRatio(Rejection):
    """Accepts with probability min(1, q / p)."""

    def verify(self, p, draft, coins, key):
        class Reversed:
            draw = staticmethod(coins.draw)
            accept = staticmethod(lambda p_x, q_x, key: coins.accept(q_x, p_x, key))

        return super().verify(p, draft, Reversed(), key)


class BonusFromWrongRow(Rejection):
    """The token after a wholly accepted chain comes from the law before its last token."""

    def verify(self, p, draft, coins, key):
        p = p.clone()
        p[:, -1] = p[:, max(p.shape[1] - 2, 0)]
        return super().verify(p, draft, coins, key)


class AlwaysOneMore(Rejection):
    """Emits the first rejected token as well."""

    def verify(self, p, draft, coins, key):
        verdict = super().verify(p, draft, coins, key)
        extra = (verdict.accepted < draft.present.sum(1)).long()
        accepted = verdict.accepted + extra
        nodes = torch.arange(draft.tokens.shape[1])
        return Verdict(torch.where(nodes < accepted.unsqueeze(-1), nodes, -1), accepted, verdict.next_token)


class ArgmaxDraft(Rejection):
    """Drafts the likeliest token and reports the soft law."""

    def draw(self, q, coins, key, count=1):
        return q.argmax(-1, keepdim=True)


class OtherLaws:
    """Laws recomputed under another warp than the draft was drawn under."""

    def __init__(self, laws, sharpen):
        self.laws, self.sharpen = laws, sharpen

    def row(self, node):
        law = self.laws.row(node) ** self.sharpen
        return law / law.sum(-1, keepdim=True).clamp(min=1e-300)

    def at(self, tokens):
        columns = [
            self.row(torch.full((tokens.shape[0],), node)).gather(1, tokens[:, [node]].clamp(min=0))
            for node in range(tokens.shape[1])
        ]
        return torch.cat(columns, 1) if columns else self.laws.at(tokens)


class RecomputedLaw(Rejection):
    """Tests against the drafter's law at another temperature."""

    def verify(self, p, draft, coins, key):
        return super().verify(p, replace(draft, q=OtherLaws(draft.q, 1.5)), coins, key)


class SampleAgain(ExactMatch):
    """Draws a new token after a mismatch instead of emitting the one that mismatched."""

    def verify(self, p, draft, coins, key):
        verdict = super().verify(p, draft, coins, key)
        missed = verdict.accepted < draft.present.sum(1)
        row = p[torch.arange(p.shape[0]), verdict.accepted]
        position = torch.where(missed & (key.position >= 0), key.position + verdict.accepted, -1)
        again = coins.draw(row, key.at(position=position, purpose="residual"))
        return replace(verdict, next_token=torch.where(missed, again, verdict.next_token))


class FirstTokenOnly(ExactMatch):
    """Compares the first drafted token and believes the rest."""

    def verify(self, p, draft, coins, key):
        verdict = super().verify(p, draft, coins, key)
        count = torch.where(verdict.accepted > 0, draft.present.sum(1), 0)
        nodes = torch.arange(draft.tokens.shape[1])
        return replace(verdict, nodes=torch.where(nodes < count.unsqueeze(-1), nodes, -1), accepted=count)


VERIFIERS = [ReversedRatio, BonusFromWrongRow, AlwaysOneMore, ArgmaxDraft, RecomputedLaw, SampleAgain, FirstTokenOnly]


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_wrong_verifiers(verifier):
    clean = Sampler("clean", Identity(), verifier.__mro__[1]())
    assert error(clean) <= CLEAN
    assert error(Sampler("mutant", Identity(), verifier())) >= WRONG


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda p, q: p.double(), id="residual-from-p"),
        pytest.param(lambda p, q: (p.double() - q.double()).abs(), id="residual-not-clamped"),
        pytest.param(lambda p, q: residual(p, q) * (p >= p.max(-1, keepdim=True).values), id="residual-greedy"),
        pytest.param(lambda p, q: torch.where(q.sum(-1, keepdim=True) > 0, residual(q, p), p), id="residual-reversed"),
    ],
)
def test_wrong_residuals(monkeypatch, wrong):
    assert error() <= CLEAN
    monkeypatch.setattr(rejection, "residual", wrong)
    assert error() >= WRONG


def test_residual_over_the_drafters_tokens_only(monkeypatch):
    pair = foreign_pair(61, eos=(0,))  # the drafter cannot say target token 2
    sampler = build("tli", pair.vocab)
    assert error(sampler, pair) <= CLEAN
    monkeypatch.setattr(rejection, "residual", lambda p, q: residual(p, q) * ((q > 0) | (q.sum(-1, keepdim=True) == 0)))
    assert error(sampler, pair) >= WRONG


# --- warps ---


def test_a_bonus_from_raw_logits(monkeypatch):
    limits = Limits(3, Sampling(0.7, top_k=2))
    assert error(limits=limits) <= CLEAN

    def raw_last_row(logits, sampling):
        law = warp(logits, sampling)
        law[:, -1] = logits[:, -1].softmax(-1)
        return law

    monkeypatch.setattr(decode, "warp", raw_last_row)
    assert error(limits=limits) >= WRONG


@pytest.mark.parametrize("forgotten", [{"temperature": 1.0}, {"top_k": 0}, {"top_p": 1.0}])
def test_a_target_law_without_one_processor(monkeypatch, forgotten):
    limits = Limits(3, Sampling(0.6, top_k=2, top_p=0.7))
    assert error(limits=limits) <= CLEAN
    monkeypatch.setattr(decode, "warp", lambda logits, sampling: warp(logits, replace(sampling, **forgotten)))
    alone = {"temperature": Sampling(0.6), "top_k": Sampling(top_k=2), "top_p": Sampling(top_p=0.7)}
    assert error(limits=replace(limits, sampling=alone[next(iter(forgotten))])) >= WRONG


# --- drafting and committing ---


def test_dropping_a_token_because_of_its_probability(monkeypatch):
    """Stopping before the token that was just drawn, when it looks unlikely: what stays is a biased sample."""
    assert error() <= CLEAN
    clean = decode.propose_chain

    def dropping(*args, **kwargs):
        proposed = clean(*args, **kwargs)
        draft = proposed.draft
        unlikely = (draft.q.at(draft.tokens) < 0.4).cumsum(1) > 0
        tokens = torch.where(unlikely, MISS, draft.tokens)
        return replace(proposed, draft=Draft(tokens, torch.where(unlikely, ABSENT, draft.parent), draft.q))

    monkeypatch.setattr(decode, "propose_chain", dropping)
    assert error() >= WRONG


def test_tokens_behind_an_eos(monkeypatch):
    assert error() <= CLEAN
    clean = Limits.cut
    monkeypatch.setattr(Limits, "cut", lambda self, new, fresh, eos: clean(self, new, 1, eos))
    assert error() >= WRONG


# --- roll-back ---


class Forgetful(TableModel):
    """Keeps everything that was ever fed."""

    def keep(self, slots):
        pass


class OneTooMany(TableModel):
    """Keeps the first rejected slot as well."""

    def keep(self, slots):
        longest = list(self.lengths)
        super().keep(slots)
        self.lengths = [min(kept + 1, before) for kept, before in zip(self.lengths, longest, strict=True)]


class OneTooFew(TableModel):
    """Loses the last accepted slot and leaves its successor's place empty."""

    def keep(self, slots):
        super().keep(slots)
        for row, length in enumerate(self.lengths):
            self.entries[row, length - 1] = 0


class RowsShareALength(TableModel):
    """Rolls every row back as far as the first one."""

    def keep(self, slots):
        super().keep([[max(last[-1] for last in slots if last)] if kept else [] for kept in slots])


@pytest.mark.parametrize("model", [Forgetful, OneTooMany, OneTooFew, RowsShareALength])
def test_wrong_roll_back_of_the_target(model):
    roomy = type("Roomy", (model,), {"__init__": lambda self, table, rows, n: model.__init__(self, table, rows, 3 * n)})
    assert error() <= CLEAN
    assert error(pair=replace(PAIR, model=roomy)) >= WRONG


# --- misses ---


class Leaky:
    """A proposal that cannot express one token: its law has less than unit mass, the rest is a miss."""

    support, total = None, False

    def lift(self, q):
        return self.extend(q)[..., :-1]

    def extend(self, q):
        law = torch.cat([q, q[..., 1:2]], -1)
        law[..., 1] = 0.0
        return law


def test_a_miss_is_a_rejection(monkeypatch):
    sampler = Sampler("leaky", Leaky(), Rejection())
    assert error(sampler) <= CLEAN

    def fresh_after_a_miss(self, node):
        missed = (node >= 0) & (self.probabilities[0] == 0 if self.probabilities else node < -1)
        return clean(self, torch.where(missed, -1, node))

    clean = DrawnLaws.row
    monkeypatch.setattr(DrawnLaws, "row", fresh_after_a_miss)
    assert error(sampler, length=1) >= WRONG


# --- coins ---


class SameCoin(Rejection):
    """Tests every token of a round with one coin."""

    def verify(self, p, draft, coins, key):
        class Careless:
            draw = staticmethod(coins.draw)

            @staticmethod
            def accept(p_x, q_x, key):
                node = torch.zeros_like(key.node)
                position = torch.where(key.position >= 0, key.position[:, :1], -1)
                return coins.accept(p_x, q_x, key.at(node=node, position=position))

        return super().verify(p, draft, Careless(), key)


class RoundForgotten(Rejection):
    """Names its decisions by round and node alone, and says always the same round."""

    def verify(self, p, draft, coins, key):
        class Careless:
            draw = staticmethod(coins.draw)

            @staticmethod
            def accept(p_x, q_x, key):
                position = torch.where(key.position >= 0, torch.arange(key.position.shape[1]), -1)
                return coins.accept(p_x, q_x, key.at(round=torch.zeros_like(key.round), position=position))

        return super().verify(p, draft, Careless(), key)


@pytest.mark.parametrize("verifier", [SameCoin, RoundForgotten])
def test_a_coin_used_twice_is_refused(verifier):
    with pytest.raises(RuntimeError, match="coin used twice: accept"):
        error(Sampler("mutant", Identity(), verifier()))


def test_a_corrupt_drafter_cache_costs_acceptance_and_never_correctness():
    class Corrupt(type(PAIR)):
        def open_drafter(self, rows, capacity):
            return Forgetful(self.drafter, rows, 3 * capacity)

    pair = Corrupt(PAIR.target, PAIR.drafter, PAIR.vocab, PAIR.eos)
    assert error(pair=pair) <= CLEAN
