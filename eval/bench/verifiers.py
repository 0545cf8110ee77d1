"""What one verification costs at real vocabulary sizes, over the memory-bandwidth floor of reading p and q once.

python -m eval.bench.verifiers [FILE]
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.catalog import CATALOG, applies, build
from drafters.samplers.draft import ABSENT, MISS, ROOT, Chain, Draft, DrawnLaws, Sampler, TokenProposal
from drafters.vocab.alignment import identity

VOCABULARIES = (8_192, 32_000, 151_936)
CHAIN = 5  # drafted tokens of samplers of chains
OUTPUT = Path("runs/bench/verify.json")


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


def measure(
    vocabularies: Sequence[int] = VOCABULARIES,
    rows: int = 1,
    rounds: int = 9,
    device: str = "cpu",
    draws: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """Milliseconds of one `verify` per sampler and vocabulary, the catalog's shapes, one thread on the CPU.

    The floor is one sum over all distributions of the draft, p and q, as they lie in memory. Each of `draws` drafts is
    timed `rounds` times and the median over rounds is averaged over drafts: what is accepted decides how far a verifier
    has to look. Logits are N(0, 9), the drafter's are off by N(0, 1).

    Returns:
        JSON-ready: per vocabulary and sampler `milliseconds`, `floor_milliseconds`, their ratio `per_floor`, `nodes`,
        `accepted`.

    Raises:
        ValueError: fewer than 3 rounds.
    """
    if rounds < 3:
        raise ValueError(f"rounds must be at least 3 for a median, got {rounds}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = {
            str(vocabulary): {
                name: _measure(sampler, vocabulary, rows, rounds, device, draws, seed)
                for name, sampler in samplers(vocabulary).items()
            }
            for vocabulary in vocabularies
        }
    finally:
        torch.set_num_threads(threads)
    return {
        "rows": rows,
        "rounds": rounds,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "vocabularies": results,
    }


def main(arguments: list[str]) -> int:
    """Measure, print a line per sampler and vocabulary, write the JSON file."""
    path = Path(arguments[0]) if arguments else OUTPUT
    result = measure(device="cuda" if torch.cuda.is_available() else "cpu")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2) + "\n")
    part.replace(path)
    for vocabulary, table in result["vocabularies"].items():
        for name, row in table.items():
            print(
                f"V {int(vocabulary):7,}  {name:12} {row['nodes']:2} nodes {row['milliseconds']:8.2f} ms  "
                f"{row['per_floor']:5.1f} x reading the laws ({row['floor_milliseconds']:.2f} ms)"
            )
    return 0


def _measure(
    sampler: Sampler, vocabulary: int, rows: int, rounds: int, device: str, draws: int, seed: int
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    times, floors, accepted, nodes = [], [], [], 0
    for number in range(draws):
        coins = KeyedCoins(number, torch.arange(rows, device=device))
        p, draft, laws, key = _round(sampler, vocabulary, rows, device, generator, coins)
        nodes = draft.tokens.shape[1]
        floors.append(_median(partial(_read, p, *laws), rounds, device))
        verify = partial(sampler.verifier.verify, p, draft, coins, key)
        times.append(_median(verify, rounds, device))
        accepted.append(float(verify().accepted.double().mean()))
    time_, floor = statistics.mean(times), statistics.mean(floors)
    return {
        "milliseconds": time_,
        "floor_milliseconds": floor,
        "per_floor": time_ / floor,
        "nodes": nodes,
        "accepted": statistics.mean(accepted),
    }


def _round(
    sampler: Sampler, vocabulary: int, rows: int, device: str, generator: torch.Generator, coins: KeyedCoins
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


def _median(act: Callable[[], object], rounds: int, device: str) -> float:
    series = []
    for _ in range(rounds + 1):  # the first warms up
        begin = time.perf_counter() if device == "cuda" else time.process_time()
        act()
        if device == "cuda":
            torch.cuda.synchronize()
        series.append(1e3 * ((time.perf_counter() if device == "cuda" else time.process_time()) - begin))
    return statistics.median(series[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
