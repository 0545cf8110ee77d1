"""Race decoding is plain race decoding, path by path: the draft decides how fast the output comes, never what it is."""

import random

import pytest
import torch

from drafters.engine.decode import autoregressive, speculative
from drafters.engine.limits import Limits
from drafters.probs import Sampling, warp
from drafters.rng.coins import Key, KeyedCoins
from drafters.samplers.draft import ROOT, Chain, Sampler, Tree
from drafters.samplers.proposal.identity import Identity
from drafters.samplers.proposal.tli import TLI
from drafters.samplers.tree.tunstall import tunstall
from drafters.samplers.verify.race import Race
from drafters.stop.policies.static import Static
from drafters.stop.policy import StopPolicy
from drafters.vocab.alignment import identity
from eval.lossless.toys.table_models import Table, TablePair, foreign_pair, full_pair, pruned_pair

SEEDS = 300  # rows of one batch: requests have noise of their own
NEW = 8
TARGET = Table.random(6, 0)
PAIRS = {
    "full": TablePair(TARGET, Table(TARGET.logits + 0.7 * Table.random(6, 1).logits), identity(6), eos=(5,)),
    "unrelated": full_pair(6, 2),
    "pruned": pruned_pair(6, [0, 2, 5], 4, eos=(1,)),
    "foreign": foreign_pair(6),
}
LIMITS = {
    "T=1": Limits(NEW),
    "warped": Limits(NEW, Sampling(0.7, top_k=4, top_p=0.9)),
    "other q": Limits(NEW, draft_sampling=Sampling(2.0, top_k=3)),
    "T=0": Limits(NEW, Sampling(0.0)),
    "T=0, sampled q": Limits(NEW, Sampling(0.0), draft_sampling=Sampling(1.0)),
}


def random_shape(seed: int) -> Tree:
    generator = random.Random(seed)
    levels, nodes = [], 1
    for _ in range(generator.randint(1, 4)):
        counts = [generator.choice([0, 1, 1, 2, 3]) for _ in range(nodes)]
        counts[generator.randrange(nodes)] += 1
        levels.append(tuple(counts))
        nodes = sum(counts)
    return Tree(tuple(levels))


SHAPES = {
    "chain": Chain(),
    "batch": Tree((4,)),
    "binary": Tree((2, 2, 2)),
    "tunstall": tunstall((0.55, 0.2, 0.1, 0.05), 12),
    **{f"random {seed}": random_shape(seed) for seed in range(4)},
}


class Wavering(StopPolicy):
    """Stops early in some rounds: longer after one that was accepted whole, shorter after another."""

    max_length = 4

    def reset(self, rows):
        self.length = torch.ones(len(rows), dtype=torch.int64)

    def should_continue(self, features, drafted):
        return drafted < self.length

    def on_verified(self, accepted, drafted, rows):
        self.length[rows] = (self.length[rows] + torch.where(accepted == drafted, 2, -1)).clamp(0, 4)


STOPS = {"never": lambda: Static(4), "early": Wavering, "at once": lambda: Static(0)}


def sampler(pair: TablePair, shape: Chain | Tree, verifier=None) -> Sampler:
    full = pair.vocab.to_target.shape == pair.vocab.to_drafter.shape
    return Sampler("race", Identity() if full else TLI(pair.vocab), verifier or Race(), shape)


def prompts(rows: int = SEEDS) -> list[torch.Tensor]:
    return [torch.tensor([row % 3, 1, (row // 3) % 4][: 1 + row % 3]) for row in range(rows)]  # of 1 to 3 tokens


def plain(pair: TablePair, coins: KeyedCoins, limits: Limits) -> list[list[int]]:
    """argmax p / E, token by token, over all of the noise: no engine, no cache, no draft."""
    rows = [prompt.tolist() for prompt in prompts(len(coins.requests))]
    ends = [len(row) + limits.max_new_tokens for row in rows]
    for _ in range(limits.max_new_tokens):
        p = torch.stack([warp(pair.target.after(row), limits.sampling) for row in rows])
        noise = coins.race(torch.tensor([len(row) for row in rows]), torch.arange(p.shape[1]))
        for row, end, token in zip(rows, ends, (p / noise).argmax(-1).tolist(), strict=True):
            if len(row) < end and not (row[-1] in pair.eos and len(row) > end - limits.max_new_tokens):
                row.append(token)
    return [row[end - limits.max_new_tokens :] for row, end in zip(rows, ends, strict=True)]


def lists(decoded) -> list[list[int]]:
    return [tokens.tolist() for tokens in decoded.tokens]


@pytest.fixture(scope="module")
def coins() -> KeyedCoins:
    return KeyedCoins(11, torch.arange(SEEDS), strict=True)


@pytest.fixture(scope="module")
def expected(coins):
    """(pair, limits) -> the output of plain race decoding, computed once."""
    known: dict[tuple[str, str], list[list[int]]] = {}

    def of(pair: str, limits: str) -> list[list[int]]:
        if (pair, limits) not in known:
            known[pair, limits] = plain(PAIRS[pair], coins, LIMITS[limits])
        return known[pair, limits]

    return of


CASES = [
    *[("never", shape) for shape in SHAPES],
    *[("early", shape) for shape in ("chain", "binary", "tunstall")],
    ("at once", "chain"),
]


@pytest.mark.parametrize(("stop", "shape"), CASES)
@pytest.mark.parametrize("pair", PAIRS)
def test_output_is_that_of_plain_race_decoding(shape, pair, stop, coins, expected):
    decoded = speculative(
        PAIRS[pair], sampler(PAIRS[pair], SHAPES[shape]), STOPS[stop](), prompts(), coins, LIMITS["T=1"]
    )
    assert lists(decoded) == expected(pair, "T=1")
    assert int(decoded.accepted.sum()) > SEEDS / 10 or stop == "at once"  # drafts did become output


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("shape", ["chain", "binary", "random 1"])
@pytest.mark.parametrize("pair", ["full", "pruned", "foreign"])
def test_output_under_other_laws(limits, shape, pair, coins, expected):
    decoded = speculative(PAIRS[pair], sampler(PAIRS[pair], SHAPES[shape]), Static(4), prompts(), coins, LIMITS[limits])
    assert lists(decoded) == expected(pair, limits)


@pytest.mark.parametrize("pair", PAIRS)
def test_autoregressive_decoding_with_the_same_verifier(pair, coins, expected):
    decoded = autoregressive(PAIRS[pair], prompts(), coins, LIMITS["T=1"], Race())
    assert lists(decoded) == expected(pair, "T=1")


def test_greedy_decoding_is_greedy(expected):
    pair = PAIRS["full"]
    rows = [prompt.tolist() for prompt in prompts()]
    for row, new in zip(rows, expected("full", "T=0"), strict=True):
        for token in new:
            assert token == int(pair.target.after(row).argmax())
            row.append(token)


@pytest.mark.floats
@pytest.mark.parametrize("seed", range(3))
def test_output_does_not_depend_on_the_batch(seed, coins, expected):
    order = torch.randperm(SEEDS, generator=torch.Generator().manual_seed(seed))[: 7 * (seed + 1)]
    chosen = [prompts()[row] for row in order.tolist()]
    decoded = speculative(
        PAIRS["full"], sampler(PAIRS["full"], SHAPES["binary"]), Static(2), chosen, coins.take(order), LIMITS["T=1"]
    )
    assert lists(decoded) == [expected("full", "T=1")[row] for row in order.tolist()]


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_output_survives_a_preemption(cut, coins, expected):
    """Decoding goes on from the tokens so far, without a cache: noise belongs to absolute positions."""
    pair = PAIRS["unrelated"]  # no EOS: all rows go on
    first = speculative(pair, sampler(pair, SHAPES["tunstall"]), Static(4), prompts(), coins, Limits(cut))
    resumed = [torch.cat([prompt, tokens]) for prompt, tokens in zip(prompts(), first.tokens, strict=True)]
    rest = speculative(pair, sampler(pair, SHAPES["chain"]), Static(3), resumed, coins, Limits(NEW - cut))
    got = [torch.cat([a, b]).tolist() for a, b in zip(first.tokens, rest.tokens, strict=True)]
    assert got == expected("unrelated", "T=1")


class Shuffled(Race):
    """A drafter that knows nothing: any children are lossless, even ones that read the noise of another position."""

    def draw(self, q, coins, key, count=1):
        noise = coins.race(key.position * 7 + 1, torch.arange(q.shape[1]))
        return noise.argsort(-1)[:, :count]


def test_any_children_are_lossless(coins, expected):
    pair = PAIRS["full"]
    decoded = speculative(pair, sampler(pair, SHAPES["binary"], Shuffled()), Static(3), prompts(), coins, LIMITS["T=1"])
    assert lists(decoded) == expected("full", "T=1")


class SlotKeyed(Race):
    """Sequoia's mistake: noise by tree slot."""

    def draw(self, q, coins, key, count=1):
        return super().draw(q, coins, key.at(position=key.position + 1000 * key.node), count)

    def verify(self, p, draft, coins, key):
        class Slots:
            def winners(self, position, law, count=1):
                depth = (position - key.position).clamp(min=0)
                return coins.winners(torch.where(position >= 0, position + 1000 * depth, -1), law, count)

        return super().verify(p, draft, Slots(), key)


class Resampling(Race):
    """Draws a fresh token after a mismatch, as rejection sampling would."""

    def verify(self, p, draft, coins, key):
        verdict = super().verify(p, draft, coins, key)
        last = (
            verdict.nodes.gather(1, (verdict.accepted - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
            if verdict.nodes.shape[1]
            else 0
        )
        reached = torch.where(verdict.accepted > 0, last, ROOT)
        law = p[torch.arange(len(p)), reached + 1]
        position = torch.where(key.position >= 0, key.position + verdict.accepted, -1)
        fresh = coins.draw(law, key.at(position=position, purpose="residual"))
        missed = (draft.parent == reached.unsqueeze(-1)).any(-1)
        return type(verdict)(verdict.nodes, verdict.accepted, torch.where(missed, fresh, verdict.next_token))


@pytest.mark.parametrize("mutant", [SlotKeyed, Resampling])
@pytest.mark.parametrize("shape", ["chain", "binary"])
def test_a_planted_bug_shows(mutant, shape, coins, expected):
    pair = PAIRS["full"]
    fresh = KeyedCoins(coins.seed, coins.requests)
    decoded = speculative(pair, sampler(pair, SHAPES[shape], mutant()), Static(3), prompts(), fresh, LIMITS["T=1"])
    wrong = sum(got != right for got, right in zip(lists(decoded), expected("full", "T=1"), strict=True))
    assert wrong > SEEDS / 10


def test_rows_without_a_position_are_left_alone():
    law = torch.tensor([[0.5, 0.3, 0.2]]).expand(3, -1)
    coins = KeyedCoins(0, torch.arange(3))
    children = Race().draw(law, coins, Key(torch.tensor([4, -1, 5]), None, "draft"), 2)
    assert (children >= 0).all(-1).tolist() == [True, False, True]
    assert children[0].unique().numel() == 2
    assert (
        Race().draw(law, coins, Key(torch.tensor([4, 4, 4]), None, "draft"), 5)[:, 3:].eq(-1).all()
    )  # three tokens only
