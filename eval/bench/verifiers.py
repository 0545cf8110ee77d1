"""What one verification costs at real vocabulary sizes, over the memory-bandwidth floor of reading p and q once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from statistics import mean

import torch
from torch import Tensor

from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.catalog import CATALOG, applies, build
from drafters.samplers.draft import ABSENT, MISS, ROOT, Chain, Draft, DrawnLaws, Sampler, TokenProposal
from drafters.vocab.alignment import identity
from eval.bench.output import Figures, device_here, environment, finish
from eval.costs.timing import median_seconds

CHAIN = 5  # drafted tokens of samplers of chains


@dataclass
class VerifierOptions:
    """The options of the benchmark of the verifiers."""

    vocabularies: list[int] = field(default_factory=lambda: [8_192, 32_000, 151_936])  # their sizes, V
    rows: int = 1  # requests verified together
    rounds: int = 9  # timings of each draft, at least 3
    draws: int = 8  # drafts
    seed: int = 0  # of p, q and what is drafted
    threads: int = 1


def samplers(vocabulary: int) -> dict[str, Sampler]:
    """Those of the catalog that draft from a distribution with nothing but the vocabulary known."""
    found = {}
    for name in CATALOG:
        if not applies(name, identity(vocabulary)):
            continue  # needs texts or a prior; its verifier is one of the others'
        sampler = build(name, identity(vocabulary))
        if isinstance(sampler.proposal, TokenProposal):
            found[name] = sampler
    return found


def measure(options: VerifierOptions) -> Figures:
    """Milliseconds of one `verify` per sampler and vocabulary, the catalog's shapes; of a CPU, its own time.

    The floor is one sum over all distributions of the draft, p and q, as they lie in memory. Each of `draws` drafts is
    timed `rounds` times and the median over rounds is averaged over drafts: what is accepted decides how far a verifier
    has to look. Logits are N(0, 9), the drafter's are off by N(0, 1).

    Returns:
        Per vocabulary and sampler `milliseconds`, `floor_milliseconds`, their ratio `per_floor`, `nodes`, `accepted`.
    """
    torch.set_num_threads(options.threads)
    return {
        "rows": options.rows,
        "rounds": options.rounds,
        "vocabularies": {
            str(vocabulary): {
                name: _measure(sampler, vocabulary, options, device_here())
                for name, sampler in samplers(vocabulary).items()
            }
            for vocabulary in options.vocabularies
        },
    } | environment()


def lines(result: Figures) -> Iterator[str]:
    """A line to print per sampler and vocabulary."""
    for vocabulary, table in result["vocabularies"].items():
        for name, row in table.items():
            yield (
                f"V {int(vocabulary):7,}  {name:12} {row['nodes']:2} nodes {row['milliseconds']:8.2f} ms  "
                f"{row['per_floor']:5.1f} x reading the laws ({row['floor_milliseconds']:.2f} ms)"
            )


def main(options: VerifierOptions) -> int:
    """Measure, write runs/bench/verify.json, and print; returns the exit status."""
    result = measure(options)
    return finish("verify", result, lines(result))


def _measure(sampler: Sampler, vocabulary: int, options: VerifierOptions, device: torch.device) -> Figures:
    generator = torch.Generator().manual_seed(options.seed)
    times, floors, accepted, nodes = list[float](), list[float](), list[float](), 0
    for number in range(options.draws):
        coins = KeyedCoins(number, torch.arange(options.rows, device=device))
        p, draft, laws, key = _round(sampler, vocabulary, options.rows, device, generator, coins)
        nodes = draft.tokens.shape[1]
        verify = partial(sampler.verifier.verify, p, draft, coins, key)
        for act, series in ((partial(_read, p, *laws), floors), (verify, times)):
            series.append(1e3 * median_seconds(act, options.rounds, device, cpu_time=True))
        accepted.append(float(verify().accepted.double().mean()))
    return {
        "milliseconds": mean(times),
        "floor_milliseconds": mean(floors),
        "per_floor": mean(times) / mean(floors),
        "nodes": nodes,
        "accepted": mean(accepted),
    }


def _round(
    sampler: Sampler, vocabulary: int, rows: int, device: torch.device, generator: torch.Generator, coins: KeyedCoins
) -> tuple[Tensor, Draft, list[Tensor], Key]:
    """A draft with fresh p and q at every node: p (rows, M + 1, V), the draft, every q, the key of the round."""
    verifier = sampler.verifier
    levels = [[1]] * CHAIN if isinstance(sampler.shape, Chain) else sampler.shape.levels
    key = Key(torch.full((rows,), 100, device=device), torch.full((rows,), 100, device=device), "draft")
    laws, tokens, parents, p = DrawnLaws(sampler.token_proposal), list[Tensor](), list[Tensor](), list[Tensor]()

    def pair() -> Tensor:
        logits, noise = torch.randn(2, rows, vocabulary, generator=generator).to(device)
        p.append((3 * logits).softmax(-1))
        return (3 * logits + noise).softmax(-1)

    level = [ROOT]
    for depth, counts in enumerate(levels):
        children: list[int] = []
        for parent, count in zip(level, counts, strict=True):
            q = pair()  # of the parent, whose row of p it appends: parents come in the order of the nodes
            if count == 0:
                continue
            laws.open(q)
            name = key.at(position=key.position + depth, node=parent + 1)
            for token in verifier.draw(q, coins, name, count).unbind(1):
                children.append(len(tokens))
                tokens.append(token)
                parents.append(torch.where(token > MISS, parent, ABSENT))
                laws.append(q.gather(1, token.clamp(min=0).unsqueeze(1)).squeeze(1))
        level = children
    for _ in level:
        pair()  # leaves have no drafter's distribution, but one of the target's
    draft = Draft(torch.stack(tokens, 1), torch.stack(parents, 1), laws if verifier.needs_law else None)
    return torch.stack(p, 1), draft, laws.rows if verifier.needs_law else [], key


def _read(*laws: Tensor) -> list[Tensor]:
    return [law.sum() for law in laws]
