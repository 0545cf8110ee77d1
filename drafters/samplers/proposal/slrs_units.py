"""String-level rejection sampling for drafters of characters or bytes: one whole target token per draft.

Timor et al. 2025 (arXiv 2502.05202), algorithm 3, with a text that ends at its longest match (drafters.vocab.units). psi is the law of
what is drafted whatever the target's tokenizer is, so the rule is exact for all; a tokenizer that does not itself take the
longest match (BPE) only accepts less. psi is evaluated where it is asked for: a verifier that thins needs two tokens of it per round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafters.rng.coins import Coins
from drafters.samplers.draft import ABSENT, MISS, ROOT, Draft, Session
from drafters.vocab.texts import Texts
from drafters.vocab.units import Path, Units


class SLRSUnits:
    """Draw units until no longer target token is in reach; draft the longest match."""

    def __init__(self, texts: Texts):
        self.texts, self.units = texts, Units(texts)
        self.slots = self.units.most_needed
        self.vocabulary = len(texts.target.text)

    def propose(self, session: Session, coins: Coins) -> Draft:
        """See StringProposal.propose: at most one target token per row."""
        position = session.key.position
        drafting = (torch.tensor(session.room, device=position.device) > 0) & session.wants(torch.zeros_like(position))
        paths: list[Path] = [() for _ in session.room]
        go = drafting
        root: Tensor | None = None
        step = 0
        while bool(go.any()):
            if step:
                session.feed(
                    torch.tensor([self._id(path) if on else -1 for path, on in zip(paths, go.tolist(), strict=True)])
                )
            law = self.units.law(session.law())
            root = law if root is None else root
            key = session.key.at(position=torch.where(go, position, -1), node=step, purpose="draft")
            drawn = coins.draw(law, key).tolist()
            on = go.tolist()
            paths = [(*path, unit) if open_row else path for path, unit, open_row in zip(paths, drawn, on, strict=True)]
            go = go & torch.tensor([path in self.units.below for path in paths], device=go.device)
            step += 1
        if root is None:
            nothing = torch.zeros(len(paths), 0, dtype=torch.int64, device=position.device)
            return Draft(nothing, nothing, NoLaws())
        tokens = torch.tensor([self.units.longest(path) for path in paths], device=position.device).unsqueeze(-1)
        drawn_from = UnitLaws(self, session, root)
        present = drafting.unsqueeze(-1)
        return Draft(torch.where(present, tokens, MISS), torch.where(present, ROOT, ABSENT), drawn_from)

    def _id(self, path: Path) -> int:
        return int(self.texts.rows[path[-1]])

    def stream(self, drafted: list[int], tokens: list[int]) -> list[int]:
        """See StringProposal.stream."""
        return self.texts.stream(drafted, tokens)


class NoLaws:
    """Of a round without drafts."""

    def at(self, tokens: Tensor) -> Tensor:
        """See Laws.at."""
        return torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)

    def row(self, node: Tensor) -> Tensor:
        """See Laws.row: nothing to take away, whatever V is."""
        return torch.zeros(node.shape[0], 1, dtype=torch.float64, device=node.device)


class UnitLaws:
    """psi of one round, token by token (see drafters.samplers.draft.Laws); every new token asks the drafter once."""

    def __init__(self, proposal: SLRSUnits, session: Session, root: Tensor):
        self._proposal, self._session, self._root = proposal, session, root

    def of(self, tokens: Tensor) -> Tensor:
        """fp64 (B,): psi of one token per row, -1 = none."""
        units, host = self._proposal.units, tokens.tolist()
        wanted = [[path for path in units.needed(token) if path] for token in host]
        ids = [[tuple(int(units.ids[unit]) for unit in path) for path in paths] for paths in wanted]
        below = self._session.below(ids)
        values = []
        for row, token in enumerate(host):
            laws = {(): self._root[row]} | dict(zip(wanted[row], units.law(below[row]), strict=True))
            values.append(units.psi(token, laws.__getitem__) if token >= 0 else 0.0)
        return torch.tensor(values, dtype=torch.float64, device=tokens.device)

    def at(self, tokens: Tensor) -> Tensor:
        """See Laws.at."""
        return self.of(tokens[:, 0]).unsqueeze(-1)

    def row(self, node: Tensor) -> Tensor:
        """See Laws.row: every token of the vocabulary, one drafter forward each."""
        columns = [self.of(torch.where(node >= 0, token, -1)) for token in range(self._proposal.vocabulary)]
        return torch.stack(columns, -1)
