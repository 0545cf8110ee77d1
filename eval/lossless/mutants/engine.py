"""Bugs around the verifiers: warps, vocabulary maps, roll-back, batches, coins, what is drafted and what is committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from drafters.engine import decode
from drafters.engine.drafting import chain
from drafters.engine.limits import Limits
from drafters.probs import Sampling
from drafters.rng.coins import Coins, Key, KeyedCoins
from drafters.samplers.draft import ABSENT, MISS, Draft, Sampler, Tree, Verdict
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.verify.race import Race
from drafters.samplers.verify.rejection import Rejection
from eval.lossless.mutants.chains import standard
from eval.lossless.mutants.subject import (
    BATCH,
    EXACT,
    PATH,
    SAMPLED,
    Mutant,
    Subject,
    instead,
    patched,
    verifier,
)  # fmt: skip
from eval.lossless.mutants.trees import careless
from eval.lossless.toys.table_models import TableModel, pruned_pair
from eval.lossless.toys.toy_pairs import Blocks, blocks

# --- warps of the target ---


def warped() -> Subject:
    """All processors at once, each of which may be forgotten."""
    return replace(standard(), sampling=Sampling(0.6, top_k=2, top_p=0.9))


def tempered() -> Subject:
    """A temperature alone."""
    return replace(standard(), sampling=Sampling(0.6))


def nucleus() -> Subject:
    """top-p alone."""
    return replace(standard(), sampling=Sampling(top_p=0.7))


def forgets(**fields: Any) -> Any:
    """The target's law without some of its processors."""
    return patched(decode, "warp", lambda warp: lambda logits, sampling: warp(logits, replace(sampling, **fields)))


def raw_bonus(warp: Any) -> Any:
    """The last row of the target's laws from raw logits."""

    def wrong(logits: Tensor, sampling: Sampling) -> Tensor:
        law = warp(logits, sampling)
        law[:, -1] = logits[:, -1].softmax(-1)
        return law

    return wrong


def end_masked(warp: Any) -> Any:
    """The target may never say token 2, as if the pruned drafter's missing EOS had been masked for both."""

    def wrong(logits: Tensor, sampling: Sampling) -> Tensor:
        return warp(logits.index_fill(-1, torch.tensor([2]), -torch.inf), sampling)

    return wrong


# --- what is drafted ---


def dropping(propose_chain: Any) -> Any:
    """Stops before the token that was just drawn, when it looks unlikely: what stays is a biased sample."""

    def wrong(*args: Any, **kwargs: Any) -> Any:
        proposed = propose_chain(*args, **kwargs)
        draft = proposed.draft
        unlikely = (draft.q.at(draft.tokens) < 0.4).cumsum(1) > 0
        tokens = torch.where(unlikely, MISS, draft.tokens)
        return replace(proposed, draft=Draft(tokens, torch.where(unlikely, ABSENT, draft.parent), draft.q))

    return wrong


def moved(how: Callable[[Tensor, int], Tensor]) -> Callable[[Any], Any]:
    """The drawn tokens are moved after the draw; the law kept knows nothing of it."""

    def plant(draw_children: Any) -> Any:
        def wrong(q: Tensor, sampler: Sampler, coins: Coins, key: Key, count: int = 1) -> tuple[Tensor, Tensor]:
            law, drawn = draw_children(q, sampler, coins, key, count)
            return law, torch.where(drawn >= 0, how(drawn, law.shape[-1]), drawn)

        return wrong

    return plant


def offsets(drawn: Tensor, vocabulary: int) -> Tensor:
    """Kept ids 0, 2, 3 of a head of three rows, written as offsets 0, 1, 1 from the row and read as ids."""
    return torch.tensor([0, 1, 1, 1])[drawn.clamp(max=3)]


def neighbour(drawn: Tensor, vocabulary: int) -> Tensor:
    """Every token moves to its neighbour, as an affinity prior applied to samples would."""
    return (drawn + 1) % vocabulary


def pruned() -> Subject:
    """A head of three rows for four tokens."""
    pair = pruned_pair(4, [0, 2, 3], 72)
    sampler = Sampler("tli", TLI(pair.vocab), Rejection())
    return Subject(sampler, pair=pair, prompt=(0, 1, 2), blocks=blocks([0, 2, 3], 72))


# --- roll-back ---


class Forgetful(TableModel):
    """Keeps everything that was ever fed."""

    def keep(self, slots: list[list[int]]) -> None:
        """See Model."""


class OneTooMany(TableModel):
    """Keeps the first rejected slot as well."""

    def keep(self, slots: list[list[int]]) -> None:
        """See Model."""
        longest = list(self.lengths)
        super().keep(slots)
        self.lengths = [min(kept + 1, before) for kept, before in zip(self.lengths, longest, strict=True)]


class OneTooFew(TableModel):
    """Loses the last accepted slot and leaves its successor's place empty."""

    def keep(self, slots: list[list[int]]) -> None:
        """See Model."""
        super().keep(slots)
        for row, length in enumerate(self.lengths):
            self.entries[row, length - 1] = 0


class RowsShareALength(TableModel):
    """Rolls every row back as far as the furthest one."""

    def keep(self, slots: list[list[int]]) -> None:
        """See Model."""
        super().keep([[max(last[-1] for last in slots if last)] if kept else [] for kept in slots])


def rolled_back_by(model: type[TableModel]) -> Any:
    """Plant another cache, with room for what it does not give back."""

    def start(self: Any, table: Any, rows: int, capacity: int) -> None:
        model.__init__(self, table, rows, 8 * capacity)

    roomy = type("Roomy", (model,), {"__init__": start})

    def plant(subject: Subject) -> Any:
        toy = subject.blocks
        chosen = Blocks(replace(toy.pair, model=roomy), toy.prompt)
        return instead(pair=replace(subject.pair, model=roomy), blocks=chosen)(subject)

    return plant


# --- coins ---


class OneStream(KeyedCoins):
    """A generator that all rows of a batch draw from in turn, whether or not they have a decision to take."""

    def __init__(self, seed: int, requests: Tensor, strict: bool = False):
        super().__init__(seed, requests)
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, key: Key) -> Tensor:
        """See KeyedCoins."""
        return torch.rand(super().uniform(key).shape, generator=self.generator, dtype=torch.float64)


class ForgetsRequest(KeyedCoins):
    """All requests share their coins."""

    def __init__(self, seed: int, requests: Tensor, strict: bool = False):
        super().__init__(seed, torch.zeros_like(requests))


class ForgetsRound(KeyedCoins):
    """The coins of one round are used again in the next: one noise tensor per slot, drawn once per prompt."""

    def uniform(self, key: Key) -> Tensor:
        """See KeyedCoins."""
        nodes = torch.arange(key.position.shape[1]) if key.position.ndim == 2 else 0
        there = torch.zeros_like(key.position) + nodes
        round_ = None if key.round is None else torch.zeros_like(key.round)
        return super().uniform(key.at(position=there, round=round_))


def as_draft(key: Key) -> Key:
    """Draft and test share a coin."""
    return key.at(purpose="draft")


# --- races ---


class SlotKeyed(Race):
    """Noise by tree slot, not by position."""

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """See Verifier."""
        return super().draw(q, coins, key.at(position=key.position + 1000 * key.node), count)

    def verify(self, p: Tensor, draft: Draft, coins: Any, key: Key) -> Verdict:
        """See Verifier."""

        class Slots:
            def winners(self, position: Tensor, law: Tensor, count: int = 1) -> Tensor:
                depth = (position - key.position).clamp(min=0)
                return coins.winners(torch.where(position >= 0, position + 1000 * depth, -1), law, count)

        return super().verify(p, draft, Slots(), key)  # type: ignore[arg-type]


class Resampling(Race):
    """Draws a fresh token after a mismatch, as rejection sampling would."""

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """See Verifier."""
        verdict = super().verify(p, draft, coins, key)
        if not draft.tokens.shape[1]:
            return verdict
        ends = verdict.nodes.gather(1, (verdict.accepted - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
        reached = torch.where(verdict.accepted > 0, ends, -1)
        law = p[torch.arange(len(p)), reached + 1]
        position = torch.where(key.position >= 0, key.position + verdict.accepted, -1)
        fresh = coins.draw(law, key.at(position=position, purpose="residual"))
        missed = (draft.parent == reached.unsqueeze(-1)).any(-1)
        return replace(verdict, next_token=torch.where(missed, fresh, verdict.next_token))


def raced() -> Subject:
    """Race on a binary tree."""
    return Subject(Sampler("race_tree", Identity(), Race(), Tree((2, 2))))


BOTH = (EXACT, SAMPLED)
MUTANTS = [
    Mutant("M8", "drops a token it has looked at", standard, patched(decode, "propose_chain", dropping), BOTH),
    Mutant("M9", "one stream of coins for the batch", standard, instead(coins=OneStream), (BATCH,), "the law is right"),
    Mutant("M10", "no roll-back", standard, rolled_back_by(Forgetful), BOTH),
    Mutant("M10", "a rejected slot is kept", standard, rolled_back_by(OneTooMany), BOTH),
    Mutant("M10", "an accepted slot is lost", standard, rolled_back_by(OneTooFew), BOTH),
    Mutant("M10", "rows share a length", standard, rolled_back_by(RowsShareALength), BOTH),
    Mutant("M12", "target without its temperature", tempered, forgets(temperature=1.0), BOTH),
    Mutant("M12", "target without top-k", warped, forgets(top_k=0), BOTH),
    Mutant("M12", "target without top-p", nucleus, forgets(top_p=1.0), BOTH),
    Mutant("M15", "offsets read as ids", pruned, patched(chain, "draw_children", moved(offsets)), BOTH),
    Mutant("M16", "prior applied after sampling", pruned, patched(chain, "draw_children", moved(neighbour)), BOTH),
    Mutant("M17", "draft and test share a coin", standard, verifier(careless(Rejection(), as_draft)), BOTH),
    Mutant("M19", "EOS masked in the target", standard, patched(decode, "warp", end_masked), BOTH),
    Mutant("T5", "bonus from raw logits", tempered, patched(decode, "warp", raw_bonus), BOTH),
    Mutant("T5", "race: new draw after a mismatch", raced, verifier(Resampling), (PATH,), "races have no finite coins"),
    Mutant("T5", "race: noise by tree slot", raced, verifier(SlotKeyed), (PATH,), "races have no finite coins"),
    Mutant(
        "own", "requests share coins", standard, instead(coins=ForgetsRequest), (SAMPLED,),
        "production coins only",
    ),
    Mutant(
        "own", "rounds share coins", standard, instead(coins=ForgetsRound), (SAMPLED,), "production coins only",
    ),
    Mutant(
        "own", "tokens behind an EOS", standard,
        patched(Limits, "cut", lambda cut: lambda self, new, fresh, eos: cut(self, new, 1, eos)), (EXACT,),
        "the samples have no EOS",
    ),
]  # fmt: skip
