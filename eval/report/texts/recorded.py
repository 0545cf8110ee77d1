"""Decodes a prompt once more, untimed, and asks both models afterwards what they thought of every token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drafters.engine.decode import Decoded, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling, picked
from drafters.rng.coins import Coins, Key, KeyedCoins
from drafters.samplers.draft import MISS, Draft, Sampler, Verdict, Verifier
from drafters.stop.policy import StopPolicy
from eval.expectation.common_text import Continuation, drafted, drafter_logits, target_logits
from eval.expectation.expect import draft_law, target_law
from eval.report.texts.answer import Answer, AnswerToken, Origin, RejectedDraft
from eval.report.texts.spelled import TokenNames
from eval.run.configurations import Drafter
from eval.run.records import PACKAGE
from eval.run.trials import Task

Round = tuple[int, int, int]  # (drafted, verified, accepted), see Decoded.rounds
DIGITS = 4  # of probabilities


@dataclass(frozen=True)
class Recorder:
    """How answers are made: the packaged drafter drafts, and all are asked afterwards."""

    drafters: Sequence[tuple[Drafter, Sampler]]  # PACKAGE among them; its sampler drafts a chain of tokens
    names: TokenNames  # of the target
    seed: int

    def answer(self, task: Task, asked: str, stop: StopPolicy, limits: Limits) -> Answer:
        """The answer to a prompt, with the coins of the timed runs: what was timed there with this sampler and stop policy."""
        drafter, sampler = self._packaged
        noted = DraftNotes(sampler.verifier)
        coins = KeyedCoins(self.seed, torch.tensor([task.number], device=drafter.pair.device))
        watched = dataclasses.replace(sampler, verifier=noted)
        decoded = speculative(drafter.pair, watched, stop, [task.ids], coins, limits)
        tokens = self._tokens(Continuation(task.ids, decoded.tokens[0], limits.max_new_tokens), decoded, noted, limits)
        return Answer(
            prompt=task.id,
            asked=asked,
            temperature=limits.sampling.temperature,
            rounds=len(decoded.rounds[0]),
            tokens=tuple(tokens),
        )

    def _tokens(self, text: Continuation, decoded: Decoded, noted: DraftNotes, limits: Limits) -> list[AnswerToken]:
        ids, rounds = text.new.tolist(), decoded.rounds[0]
        written, refused = origins(rounds, len(ids)), refusals(rounds, noted.chains)
        read = torch.stack([text.new, torch.tensor([refused.get(place, MISS) for place in range(len(ids))])], 1)
        p, q = self._probabilities(text, read, limits)
        sayable, found = self._packaged[0].vocab.to_drafter >= 0, []  # (V,)
        for place, (token, (spelled, raw)) in enumerate(zip(ids, self.names.spelled(ids), strict=True)):
            found.append(
                AnswerToken(
                    id=token,
                    text=spelled,
                    raw=raw,
                    origin=written[place],
                    sayable=bool(sayable[token]),
                    p=p[place][0],
                    q={name: own[place][0] for name, own in q.items() if place < len(own)},
                    rejected=self._rejected(refused.get(place, MISS), p[place][1], q[PACKAGE][place : place + 1]),
                )
            )
        return found

    def _rejected(self, token: int, p: float, q: Sequence[Sequence[float]]) -> RejectedDraft | None:
        if token == MISS:
            return None
        spelled, raw = self.names.alone(token)
        return RejectedDraft(id=token, text=spelled, raw=raw, p=p, q=q[0][1] if q else None)

    @property
    def _packaged(self) -> tuple[Drafter, Sampler]:
        return next(item for item in self.drafters if item[0].name == PACKAGE)

    @torch.inference_mode()
    def _probabilities(
        self, text: Continuation, tokens: Tensor, limits: Limits
    ) -> tuple[list[list[float]], dict[str, list[list[float]]]]:
        """(p, q by drafter) of tokens (n, k), MISS for none, by one teacher-forced pass of each model over the text."""
        pair, q = self.drafters[0][0].pair, {}
        p = target_law(target_logits(pair, text), text.new, shown(limits.sampling)).cpu()
        for drafter, sampler in self.drafters:
            law = draft_law(drafter_logits(drafter.pair, text), sampler, shown(limits.drafting))
            q[drafter.name] = _rounded(picked(law, tokens)[: drafted(drafter.pair, text)])
        return _rounded(picked(p, tokens)), q


@dataclass
class DraftNotes(Verifier):
    """A verifier that decides as `inner` does and notes the chain that it was given, for one request."""

    inner: Verifier
    chains: list[list[int]] = field(default_factory=list)  # of each round
    needs_law: bool = field(init=False)
    positional: bool = field(init=False)
    coupled: bool = field(init=False)

    def __post_init__(self) -> None:
        self.needs_law, self.positional = self.inner.needs_law, self.inner.positional
        self.coupled = self.inner.coupled  # it draws by itself, so that nothing is compiled

    def draw(self, q: Tensor, coins: Coins, key: Key, count: int = 1) -> Tensor:
        """Draw as `inner` does; see `Verifier.draw`."""
        return self.inner.draw(q, coins, key, count)

    def verify(self, p: Tensor, draft: Draft, coins: Coins, key: Key) -> Verdict:
        """Decide as `inner` does; see `Verifier.verify`."""
        self.chains.append(draft.tokens[0][draft.present[0]].tolist())
        return self.inner.verify(p, draft, coins, key)


def shown(sampling: Sampling) -> Sampling:
    """The sampling whose probabilities are shown: a greedy one's are 0 and 1, so that those at temperature 1 are."""
    return Sampling(1.0) if sampling.greedy else sampling


def origins(rounds: Sequence[Round], tokens: int) -> list[Origin]:
    """Who wrote each of so many tokens: a round commits its accepted drafts, then one token of the target's own.

    The last round may end behind an accepted draft: at an EOS, or with the last token there was room for. Raises ValueError
    for rounds that do not make so many tokens.
    """
    found: list[Origin] = []
    for number, (made, verified, accepted) in enumerate(rounds):
        found += ["accepted"] * accepted
        if number + 1 < len(rounds) or len(found) < tokens:
            found.append("correction" if verified > accepted else "bonus" if made else "plain")
    if len(found) != tokens:
        raise ValueError(f"rounds {rounds} write {len(found)} tokens, expected {tokens}")
    return found


def refusals(rounds: Sequence[Round], chains: Sequence[Sequence[int]]) -> dict[int, int]:
    """Place of each correction in the text -> the draft that was refused there; `chains` holds every round's drafts."""
    found, end = {}, 0
    for (_, verified, accepted), chain in zip(rounds, chains, strict=True):
        if verified > accepted:
            found[end + accepted] = chain[accepted]
        end += accepted + 1
    return found


def _rounded(values: Tensor) -> list[list[float]]:
    """(n, k) with a few digits; rounding of sums can lead beyond 1."""
    return [[min(1.0, float(f"{value:.{DIGITS}g}")) for value in row] for row in values.tolist()]
