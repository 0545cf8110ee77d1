"""A target server: weights, one cache, the coins. It answers with verdicts; laws stay where they were made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from drafters.distributed.messages import Drafted, Reply, Settle, Task
from drafters.distributed.request import Request
from drafters.distributed.servers.cached_text import CachedText
from drafters.distributed.servers.cancel import Abandoned, abandoning
from drafters.engine.transformers_pair import Pair
from drafters.probs import warp
from drafters.rng.coins import Key
from drafters.samplers.draft import Draft, DrawnLaws, Laws, Sampler, Verdict

ROWS_KEPT = 8  # held rows; only the newest can still be asked for, the rest are of epochs that are over


class TargetServer:
    """Serves one request at a time; `open` begins it.

    Chain verifiers decide in canonical form: coins are named by the position alone, and a row behind the last draft is the test
    row of the next draft, never a bonus draw (for verifiers whose target has no token of its own until it is tested). So the
    output depends on models and coins, and not on blocks, servers or time.
    """

    def __init__(self, pair: Pair, number: int):
        self.pair, self.number = pair, number
        self._request: Request | None = None
        self._text: CachedText | None = None
        self._rows: dict[int, Tensor] = {}  # task -> (1, V) law of the position behind its drafts

    @torch.inference_mode()
    def open(self, request: Request) -> None:
        """Take a request: fill the cache with its prompt."""
        self._request, self._rows = request, {}
        self._text = CachedText(lambda: self.pair.open_target(1, request.end + 1))
        self._text.prefill(request.prompt[:-1])

    @torch.inference_mode()
    def verify(self, work: Task | Settle, alive: Callable[[], bool] = lambda: True) -> Reply:
        """The verdict; a dropped one where the work is over before it is done, or the row is not here (the server restarted)."""
        request, text = self._request, self._text
        if not alive() or request is None or text is None:
            return self._dropped(work)
        try:
            with abandoning(alive):
                return self._settle(work, request) if isinstance(work, Settle) else self._forward(work, request, text)
        except Abandoned:
            return self._dropped(work)

    def _forward(self, work: Task, request: Request, text: CachedText) -> Reply:
        drafts = [draft.token for draft in work.drafts]
        ids = [
            *work.prefix,
            *(max(token, 0) for token in drafts if token is not None),
        ]  # a miss is fed as anything: it ends the chain
        laws = warp(text.read(ids, len(drafts) + 1), request.limits.sampling)  # (1, M + 1, V)
        holds = request.sampler.verifier.needs_law
        if holds and not drafts:
            accepted, token = 0, None
        else:
            verdict = self._decide(laws, work.drafts, work.base, request)
            accepted = int(verdict.accepted)
            token = None if holds and accepted == len(drafts) else int(verdict.next_token)
        if token is None:
            self._keep(work.id, laws[:, -1])
        return Reply(work.id, self.number, work.epoch, work.base, accepted, token, held=token is None)

    def _settle(self, work: Settle, request: Request) -> Reply:
        law = self._rows.get(work.row)
        if law is None:
            return self._dropped(work)
        drafts = () if work.draft.token is None else (work.draft,)
        laws = law.unsqueeze(1).expand(-1, len(drafts) + 1, -1)  # what follows an accepted draft is not asked for
        verdict = self._decide(laws, drafts, work.position, request)
        accepted = int(verdict.accepted)
        token = None if accepted else int(verdict.next_token)
        return Reply(work.id, self.number, work.epoch, work.position, accepted, token)

    def _decide(self, laws: Tensor, drafts: tuple[Drafted, ...], base: int, request: Request) -> Verdict:
        key = Key(torch.tensor([base], device=laws.device), None, "accept")
        return request.sampler.verifier.verify(laws, _chain(drafts, request.sampler, laws.device), request.coins, key)

    def _keep(self, task: int, law: Tensor) -> None:
        self._rows[task] = law.clone()
        for old in sorted(self._rows)[:-ROWS_KEPT]:
            del self._rows[old]

    def _dropped(self, work: Task | Settle) -> Reply:
        base = work.base if isinstance(work, Task) else work.position
        return Reply(work.id, self.number, work.epoch, base, 0, dropped=True)


def _chain(drafts: tuple[Drafted, ...], sampler: Sampler, device: torch.device) -> Draft:
    """The drafts as a chain of one row, with the laws they were drawn from where the verifier reads them."""
    tokens = torch.tensor([[draft.token for draft in drafts]], dtype=torch.int64, device=device)  # (1, M)
    parents = torch.arange(-1, len(drafts) - 1, device=device).unsqueeze(0)
    laws: Laws | None = None
    if sampler.verifier.needs_law:
        drawn = DrawnLaws(sampler.token_proposal)
        for draft in drafts:
            q, chance = draft.law
            drawn.open(q.to(device))
            drawn.append(chance.to(device))
        laws = drawn
    return Draft(tokens, parents, laws)
