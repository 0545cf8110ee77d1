"""String-level exact match: the drafter writes text in its own tokens, the target accepts what it would have written itself.

Timor et al. 2025 (arXiv 2502.05202), algorithm 2. Any candidate is lossless under a verifier that emits the target's
own samples, so nothing of the drafter's distribution is kept. What decides the speed is that the text is cut into the
target's tokens as the target would: together with the tail of its context, without ever tokenising accepted ids again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.rng.coins import Coins
from drafters.samplers.draft import ABSENT, MISS, Draft, Session, StringProposal
from drafters.vocab.texts import Texts


class SLEM(StringProposal):
    """Draft with the drafter's whole vocabulary, hand over whole characters only; specials go by role."""

    def __init__(self, texts: Texts):
        self.texts = texts

    def propose(self, session: Session, coins: Coins) -> Draft:
        """See StringProposal.propose. The stop policy counts drafter tokens here."""
        position = session.key.position
        written: list[list[int]] = [[] for _ in session.room]
        drafted = torch.zeros_like(position)
        go = torch.tensor(session.room, device=position.device) > 0
        ids = position
        for step in range(torch.iinfo(torch.int32).max):
            go = go & session.wants(drafted)
            if not bool(go.any()):
                break
            if step:
                session.feed(torch.where(go, ids, -1))
            key = session.key.at(position=torch.where(go, position + step, -1), node=step, purpose="draft")
            ids = self.texts.rows.to(position.device)[coins.draw(session.law(), key)]
            for row, (drafter_id, open_row) in enumerate(zip(ids.tolist(), go.tolist(), strict=True)):
                if open_row:
                    written[row].append(drafter_id)
            drafted = drafted + go
            go = go & self._goes_on(ids)
        chains = [
            self.candidates(session.committed(row), ids)[:room] if ids else []
            for row, (ids, room) in enumerate(zip(written, session.room, strict=True))
        ]
        return _draft(chains, position)

    def _goes_on(self, ids: Tensor) -> Tensor:
        """bool (B,): text can follow the id."""
        return torch.tensor([self.texts.drafter.text[i] is not None for i in ids.tolist()], device=ids.device)

    def candidates(self, context: list[int], ids: list[int]) -> list[int]:
        """Target ids that continue `context` by what the drafter ids spell, a closing special with a role included."""
        spelled = [self.texts.drafter.text[i] for i in ids]
        text = b"".join(part for part in spelled if part is not None)
        tokens = self.texts.continuation(context, text) if text else []
        whole = sum(len(self.texts.target.text[token] or b"") for token in tokens) == len(text)
        if spelled[-1] is None and whole and (end := self.texts.role(ids[-1])) >= 0:
            return [*tokens, end]
        return tokens

    def stream(self, drafted: list[int], tokens: list[int]) -> list[int]:
        """Drafter ids of the committed text, drafted ones first; see `StringProposal.stream`."""
        return self.texts.stream(drafted, tokens)


def _draft(chains: list[list[int]], position: Tensor) -> Draft:
    """Chains of any length, as a Draft without distributions."""
    width = max(map(len, chains))
    tokens = [chain + [MISS] * (width - len(chain)) for chain in chains]
    parents = [[node - 1 if node < len(chain) else ABSENT for node in range(width)] for chain in chains]
    shape = len(chains), width
    return Draft(
        torch.tensor(tokens, dtype=torch.int64, device=position.device).view(shape),
        torch.tensor(parents, dtype=torch.int64, device=position.device).view(shape),
        None,
    )
