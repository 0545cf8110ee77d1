"""Bugs of rejection sampling on chains: what is accepted, and what replaces a rejected token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from drafters.probs import Sampling, residual
from drafters.rng.coins import Coins, Key, KeyedCoins
from drafters.samplers.draft import Draft, DrawnLaws, Laws, Sampler, Verdict
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.proposal.union import Union
from drafters.samplers.verify import rejection
from drafters.samplers.verify.exact_match import ExactMatch
from drafters.samplers.verify.rejection import Rejection
from eval.lossless.mutants.subject import COINS, EXACT, SAMPLED, Mutant, Subject, instead, patched, verifier
from eval.lossless.toys.table_models import foreign_pair
from eval.lossless.toys.text_table_models import many_to_one_pair
from eval.lossless.toys.toy_pairs import BLOCK, Blocks, worded_blocks


class OtherLaws:
    """Laws that are not those drawn from: sharpened ones."""

    def __init__(self, laws: Laws, sharpen: float):
        self.laws, self.sharpen = laws, sharpen

    def row(self, node: Tensor) -> Tensor:
        """See Laws."""
        law = self.laws.row(node) ** self.sharpen
        return law / law.sum(-1, keepdim=True).clamp(min=1e-300)

    def at(self, tokens: Tensor) -> Tensor:
        """See Laws."""
        columns = [
            self.row(torch.full((tokens.shape[0],), node)).gather(1, tokens[:, [node]].clamp(min=0))
            for node in range(tokens.shape[1])
        ]
        return torch.cat(columns, 1) if columns else self.laws.at(tokens)


class RawLaw(Rejection):
    """Tests against the drafter's law before the temperature of 0.7."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier."""
        return super().verify(p, replace(draft, q=OtherLaws(draft.laws, 0.7)), coins, key)


class HalfPrecisionDraft(Rejection):
    """Draws from bf16 probabilities and tests against the full ones."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """See Verifier."""
        return super().draw(q.bfloat16().to(q.dtype), coins, key, count)


class ArgmaxDraft(Rejection):
    """Drafts the likeliest token and reports the soft law."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """See Verifier."""
        return q.argmax(-1, keepdim=True)


class ReversedRatio(Rejection):
    """Accepts with probability min(1, q / p)."""

    def verify(self, p: Tensor, draft: Draft, coins: Any, key: Key) -> Verdict:
        """See Verifier."""

        class Reversed:
            draw = staticmethod(coins.draw)
            accept = staticmethod(lambda p_x, q_x, key: coins.accept(q_x, p_x, key))

        return super().verify(p, draft, Reversed(), key)  # type: ignore[arg-type]


class TokenMatching(Rejection):
    """Compares with the target's likeliest token at any temperature."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier."""
        best = torch.nn.functional.one_hot(p.argmax(-1), p.shape[-1]).to(p.dtype)
        return super().verify(best, draft, coins, key)


class TypicalAcceptance(Rejection):
    """Accepts every draft that the target gives more than 0.2, as lossy engines do."""

    def verify(self, p: Tensor, draft: Draft, coins: Any, key: Key) -> Verdict:
        """See Verifier."""

        class Typical:
            draw = staticmethod(coins.draw)
            accept = staticmethod(
                lambda p_x, q_x, key: coins.accept(torch.where(p_x > 0.2, torch.maximum(p_x, q_x), p_x), q_x, key)
            )

        return super().verify(p, draft, Typical(), key)  # type: ignore[arg-type]


class WrongPrefix(Rejection):
    """Reads every law one row early: penalties and masks computed on the prefix without its last token."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier."""
        return super().verify(torch.cat([p[:, :1], p[:, :-1]], 1), draft, coins, key)


class BonusFromWrongRow(Rejection):
    """The token after a wholly accepted chain comes from the law before its last token."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier."""
        p = p.clone()
        p[:, -1] = p[:, max(p.shape[1] - 2, 0)]
        return super().verify(p, draft, coins, key)


class OneMore(Rejection):
    """Emits the first rejected token as well."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier."""
        verdict = super().verify(p, draft, coins, key)
        accepted = verdict.accepted + (verdict.accepted < draft.present.sum(1)).long()
        nodes = torch.arange(draft.tokens.shape[1])
        return Verdict(torch.where(nodes < accepted.unsqueeze(-1), nodes, -1), accepted, verdict.next_token)


class SampleAgain(ExactMatch):
    """Draws a new token after a mismatch instead of emitting the one that mismatched."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier."""
        verdict = super().verify(p, draft, coins, key)
        missed = verdict.accepted < draft.present.sum(1)
        row = p[torch.arange(p.shape[0]), verdict.accepted]
        position = torch.where(missed & (key.position >= 0), key.position + verdict.accepted, -1)
        again = coins.draw(row, key.at(position=position, purpose="residual"))
        return replace(verdict, next_token=torch.where(missed, again, verdict.next_token))


class FirstTokenOnly(ExactMatch):
    """Compares the first drafted token and believes the rest."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier."""
        verdict = super().verify(p, draft, coins, key)
        count = torch.where(verdict.accepted > 0, draft.present.sum(1), 0)
        nodes = torch.arange(draft.tokens.shape[1])
        return replace(verdict, nodes=torch.where(nodes < count.unsqueeze(-1), nodes, -1), accepted=count)


class CoinBelowOrEqual(KeyedCoins):
    """Accepts where u q <= p: a token without probability passes when the coin is 0."""

    def accept(self, p_x: Tensor, q_x: Tensor, key: Key) -> Tensor:
        """See Coins."""
        passed = self.uniform(key) * q_x <= p_x
        return passed if passed.ndim == 1 else passed.cumprod(-1).bool()


class CumulativeBelowOrEqual(KeyedCoins):
    """Takes the first token whose cumulated mass is at least the coin: one without mass when the coin is 0."""

    def draw(self, law: Tensor, key: Key) -> Tensor:
        """See Coins."""
        mass = law.cumsum(-1, dtype=torch.float64)
        goal = self.uniform(key).unsqueeze(-1) * mass[..., -1:]
        return torch.searchsorted(mass, goal, right=False).squeeze(-1).clamp(max=law.shape[-1] - 1)


def standard() -> Subject:
    """Identity and rejection."""
    return Subject(Sampler("standard", Identity(), Rejection()))


def cold() -> Subject:
    """The same at T = 0.7."""
    return replace(standard(), sampling=Sampling(0.7))


def matching() -> Subject:
    """Identity and exact match."""
    return Subject(Sampler("exact_match", Identity(), ExactMatch()))


def intersected() -> Subject:
    """A foreign drafter that cannot say every target token."""
    pair = foreign_pair(61, eos=(0,))
    forgetful = replace(
        pair, eos=(), target=replace(pair.target, block=BLOCK), drafter=replace(pair.drafter, block=BLOCK)
    )
    sampler = Sampler("tli", TLI(pair.vocab), Rejection())
    return Subject(sampler, pair=pair, prompt=(2, 0, 1), blocks=Blocks(forgetful, [2, 0, 1]))


def missing() -> Subject:
    """A drafter some of whose tokens are misses."""
    pair = many_to_one_pair(30)
    return Subject(
        Sampler("union", Union(pair.vocab), Rejection()), pair=pair, prompt=(1,), blocks=worded_blocks(30), length=1
    )


def last_takes_the_rest(p: Tensor, q: Tensor) -> Tensor:
    """The residual without renormalising: what is missing to one falls to the last token."""
    rest = (p.double() - q.double()).clamp(min=0.0)
    rest[..., -1] += 1.0 - rest.sum(-1)
    return rest


def fresh_after_a_miss(clean: Any) -> Any:
    """A miss is followed by a draw from p, not from the residual."""

    def row(self: DrawnLaws, node: Tensor) -> Tensor:
        missed = (node >= 0) & (self.probabilities[0] == 0) if self.probabilities else node < -1
        return clean(self, torch.where(missed, -1, node))

    return row


BOTH = (EXACT, SAMPLED)
MUTANTS = [
    Mutant("M1", "q kept before its temperature", cold, verifier(RawLaw), BOTH),
    Mutant("M2", "drafts drawn in bf16", standard, verifier(HalfPrecisionDraft), (EXACT,), "below the samples' power"),
    Mutant("M3", "argmax drafts, soft q", standard, verifier(ArgmaxDraft), BOTH),
    Mutant("M4", "draw takes coin <= cdf", matching, instead(coins=CumulativeBelowOrEqual), (COINS,), "needs a coin of 0"),
    Mutant("M5", "accept takes u q <= p", standard, instead(coins=CoinBelowOrEqual), (COINS,), "needs a coin of 0"),
    Mutant("M7", "sampling as token matching", standard, verifier(TokenMatching), BOTH),
    Mutant(
        "M11", "residual over the drafter's tokens only", intersected,
        patched(rejection, "residual", lambda clean: lambda p, q: clean(p, q) * ((q > 0) | (q.sum(-1, keepdim=True) == 0))),
        BOTH,
    ),
    Mutant("M13", "laws of the wrong prefix", standard, verifier(WrongPrefix), BOTH),
    Mutant("M14", "bonus from the wrong row", standard, verifier(BonusFromWrongRow), BOTH),
    Mutant(
        "M18", "residual not renormalised", standard,
        patched(rejection, "residual", lambda clean: last_takes_the_rest), BOTH,
    ),
    Mutant("M20", "typical acceptance", standard, verifier(TypicalAcceptance), BOTH),
    Mutant("T5", "residual from p", standard, patched(rejection, "residual", lambda clean: lambda p, q: p.double()), BOTH),
    Mutant(
        "own", "residual not clamped", standard,
        patched(rejection, "residual", lambda clean: lambda p, q: (p.double() - q.double()).abs()), BOTH,
    ),
    Mutant(
        "own", "residual is greedy", standard,
        patched(rejection, "residual", lambda clean: lambda p, q: residual(p, q) * (p >= p.max(-1, keepdim=True).values)),
        BOTH,
    ),
    Mutant("own", "ratio reversed", standard, verifier(ReversedRatio), BOTH),
    Mutant("own", "emits the rejected token", standard, verifier(OneMore), BOTH),
    Mutant("own", "new draw after a mismatch", matching, verifier(SampleAgain), BOTH),
    Mutant("own", "compares the first token only", matching, verifier(FirstTokenOnly), BOTH),
    Mutant("own", "a miss resamples from p", missing, patched(DrawnLaws, "row", fresh_after_a_miss), BOTH),
]  # fmt: skip
