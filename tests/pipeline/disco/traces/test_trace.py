"""Labels against brute force, the coin's joint law with the text, segmentation, splits and files."""

import numpy as np
import pytest
import torch

from drafters.probs import Sampling, warp
from drafters.samplers.catalog import build
from drafters.vocab.alignment import identity
from eval.stop.replay import Trace
from pipeline.disco.traces import trace_files
from pipeline.disco.traces.trace import Forced, trace
from pipeline.disco.traces.trace_prompts import SPLITS, split, split_hashes
from pipeline.disco.traces.trace_rows import drafts, rows_of
from pipeline.errors import ConfigError

V, N = 5, 40_000
GENERATOR = torch.Generator().manual_seed(0)
TARGET, DRAFTER = 1.5 * torch.randn(2, V, generator=GENERATOR)


def laws(sampling):
    return warp(TARGET, sampling).double(), warp(DRAFTER, sampling).double()


@pytest.fixture(scope="module")
def many():
    """One context met N times: y drawn from p, traced."""
    p, _ = laws(Sampling(1.0))
    y = torch.multinomial(p, N, replacement=True, generator=torch.Generator().manual_seed(1))
    wide = Forced(TARGET.expand(N, V), DRAFTER.expand(N, V))
    return y, trace(wide, y, build("standard", identity(V)), Sampling(1.0), request=3, seed=0)


def test_acceptance_given_the_text_is_that_of_rejection_sampling(many):
    """P(accepted | y) = min(1, q(y) / p(y)): z-test per token; summed over y it is 1 - TV."""
    y, made = many
    p, q = laws(Sampling(1.0))
    for token in range(V):
        here = made.accepted[y == token].double()
        expected = min(1.0, float(q[token] / p[token]))
        error = max(1e-9, (expected * (1 - expected) / len(here)) ** 0.5)
        assert abs(float(here.mean()) - expected) < 4 * error + 1e-9
    overlap = float(torch.minimum(p, q).sum())
    assert torch.allclose(made.overlap, torch.full((N,), overlap), atol=1e-6)
    assert abs(float(made.accepted.double().mean()) - overlap) < 4 * (overlap * (1 - overlap) / N) ** 0.5


def test_the_draft_follows_q_and_its_chance_is_min_p_over_q(many):
    """The draft is known by its chance and probability: both of the same token, which is distributed as q."""
    _, made = many
    p, q = laws(Sampling(1.0))
    drawn = made.features[:, 11].double().exp()
    which = (drawn.unsqueeze(1) - q).abs().argmin(1)
    assert torch.allclose(made.chance.double(), (p / q).clamp(max=1)[which], atol=1e-4)
    counts = torch.bincount(which, minlength=V).double()
    chi = float(((counts - N * q).square() / (N * q)).sum())
    assert chi < 23.5  # 4 degrees of freedom, one in ten thousand
    spread = float(made.chance.double().var())
    overlap = float(torch.minimum(p, q).sum())
    assert abs(float(made.chance.double().mean()) - overlap) < 4 * (spread / N) ** 0.5


def test_greedy_labels_are_equality_of_the_best_tokens():
    torch.manual_seed(2)
    target, drafter = torch.randn(2, 30, V)
    y = target.argmax(-1)
    made = trace(Forced(target, drafter), y, build("standard", identity(V)), Sampling(0.0), 0, 0)
    match = drafter.argmax(-1) == y
    assert torch.equal(made.accepted, match)
    assert torch.equal(made.chance, match.float())
    assert torch.equal(made.overlap, match.float())
    assert 0 < int(match.sum()) < 30


def test_rounds_end_at_the_first_rejection_and_skip_the_targets_own_token():
    flags = torch.tensor([1, 1, 1, 0, 1, 0, 0, 1, 1]).bool()
    places, past = drafts(flags, 2)
    # rounds: 0 1 | (2 is the target's) 3 | 4 5 | 6 | 7 8
    assert places.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    assert past[:, 0].expm1().round().tolist() == [0, 1, 0, 0, 1, 0, 0, 1]
    assert past[:, 1].expm1().round().tolist() == [0, 1, 2, 0, 1, 0, 0, 1]  # two before the rejection at 3, none since


def request(number, flags, temperature=1.0):
    n = len(flags)
    features = torch.rand(n, 17, generator=torch.Generator().manual_seed(number))
    made = Trace(features, torch.tensor(flags).bool(), torch.full((n,), 0.25), torch.full((n,), 0.75))
    return trace_files.Request(number, f"g{number}", SPLITS[number % 3], temperature, made)


def test_labels_and_the_next_draft():
    rows = {
        label: rows_of([request(0, [1, 1, 0, 1])], label) for label in ("greedy_match", "one_minus_tv", "min1_ratio")
    }
    assert rows["greedy_match"].label[:, 0].tolist() == [1, 1, 0, 1]
    assert rows["one_minus_tv"].label[:, 0].tolist() == [0.75] * 4
    assert rows["min1_ratio"].label.tolist() == [[0.25, 0.75]] * 4
    assert rows["min1_ratio"].known[:, 1].tolist() == [True, True, False, False]  # rejected; the last one
    with pytest.raises(ValueError, match=r"train_disco.label must be one of .*, got soft"):
        rows_of([request(0, [1])], "soft")


def test_shards_come_back_as_they_were(tmp_path):
    items = [request(number, [1, 0, 1][: 1 + number % 3], temperature=0.7) for number in range(5)]
    trace_files.write_shard(trace_files.shard_path(tmp_path, 0.7, 0), items[:2])
    trace_files.write_shard(trace_files.shard_path(tmp_path, 0.7, 1), items[2:])
    back = trace_files.read_shards(tmp_path)
    assert [(a.number, a.group, a.split, a.temperature) for a in back] == [
        (b.number, b.group, b.split, b.temperature) for b in items
    ]
    for a, b in zip(back, items, strict=True):
        for field in ("features", "accepted", "chance", "overlap"):
            assert torch.equal(getattr(a.trace, field), getattr(b.trace, field))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_splits_are_disjoint_and_complete():
    groups = [f"doc {number // 2}" for number in range(60)]
    parts = split(groups, 0.2, 5, seed=0)
    sizes = {name: sum(part == name for part in parts.values()) for name in SPLITS}
    assert sizes == {"train": 19, "validation": 6, "test": 5}
    assert split(groups, 0.2, 5, seed=0) == parts != split(groups, 0.2, 5, seed=1)
    assert len(set(split_hashes(parts).values())) == 3
    assert {parts[group] for group in groups} == set(SPLITS)
    with pytest.raises(ConfigError, match="leave none to train on"):
        split(["a", "b"], 1, 1, 0)
    assert np.unique(list(parts)).size == 30
