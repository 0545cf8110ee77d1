"""Who wrote each token of a round, against the drafts that were made and against `Decoded.rounds`."""

import pytest
import torch

from drafters.engine import decode, rounds
from drafters.engine.decode import speculative, stream_rounds
from drafters.engine.limits import Limits
from drafters.engine.rounds import Round, Writer, writers
from drafters.probs import Sampling
from drafters.rng.coins import KeyedCoins
from drafters.samplers.catalog import build
from drafters.stop.policies.static import Static

CASES = [("standard", "full"), ("tli", "pruned"), ("exact_match", "foreign"), ("block", "full"), ("race_tree", "full")]


def coins():
    return KeyedCoins(3, torch.arange(1))


def watched(pairs, prompt, monkeypatch, name, kind, sampling):
    """The rounds of a stream, each with its drafts as lists (token, parent)."""
    pair, vocab = pairs(kind, dtype=torch.float64)
    drafts, verify = [], decode._Run.verify

    def noting(self, draft, key):
        drafts.append(list(zip(draft.tokens[0].tolist(), draft.parent[0].tolist(), strict=True)))
        return verify(self, draft, key)

    monkeypatch.setattr(decode._Run, "verify", noting)
    sampler, stop, limits = build(name, vocab), Static(3), Limits(24, sampling)
    found = list(stream_rounds(pair, sampler, stop, prompt, coins(), limits))
    monkeypatch.undo()
    whole = speculative(pair, sampler, stop, [prompt], coins(), limits)
    return found, drafts, whole


def agrees(found: Round, drafts: list[tuple[int, int]]) -> bool:
    """Whether the writers are those that these drafts allow: a walk down the tree of drafts, token by token."""
    at, open_ = -1, True
    for token, who in zip(found.tokens.tolist(), found.who, strict=True):
        below = {drafted: node for node, (drafted, parent) in enumerate(drafts) if parent == at}
        if who is Writer.ACCEPTED:
            if not open_ or token not in below:
                return False
            at = below[token]
        else:
            own = Writer.CORRECTION if below else Writer.BONUS if drafts else Writer.PLAIN
            if not open_ or who is not own:
                return False
            open_ = False
    return True


@pytest.mark.parametrize("heat", [0.0, 1.0])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_token_has_the_writer_that_the_drafts_say(pairs, prompts, monkeypatch, name, kind, heat):
    found, drafts, whole = watched(pairs, prompts[0], monkeypatch, name, kind, Sampling(heat))
    assert torch.equal(torch.cat([each.tokens for each in found]), whole.tokens[0])
    assert [(each.drafted, each.verified, each.accepted) for each in found] == whole.rounds[0]
    assert sum(each.who.count(Writer.ACCEPTED) for each in found) == int(whole.accepted[0])
    assert all(len(each.who) == len(each.tokens) >= 1 and each.seconds > 0 for each in found)
    assert all(agrees(each, made) for each, made in zip(found, drafts, strict=True))


def test_writers_that_are_mixed_up_are_noticed(pairs, prompts, monkeypatch):
    mixed = {Writer.CORRECTION: Writer.BONUS, Writer.BONUS: Writer.CORRECTION}
    monkeypatch.setattr(rounds, "writers", lambda n, counts: tuple(mixed.get(who, who) for who in writers(n, counts)))
    found, drafts, _ = watched(pairs, prompts[0], monkeypatch, "standard", "full", Sampling(1.0))
    assert not all(agrees(each, made) for each, made in zip(found, drafts, strict=True))


def _standard(pairs, kind):
    pair, vocab = pairs(kind, dtype=torch.float64)
    return pair, build("standard", vocab), Static(3)


def test_a_drafter_equal_to_its_target_earns_a_bonus_every_round(pairs, prompts):
    found = list(stream_rounds(*_standard(pairs, "same"), prompts[0], coins(), Limits(11)))
    assert [each.who for each in found[:2]] == [(Writer.ACCEPTED,) * 3 + (Writer.BONUS,)] * 2
    assert found[2].who == (Writer.ACCEPTED, Writer.ACCEPTED, Writer.BONUS)  # drafts leave the last place to it


def test_plain_rounds(pairs, prompts):
    pair, _ = pairs("full")
    found = list(stream_rounds(pair, None, None, prompts[0], coins(), Limits(5)))
    assert [each.who for each in found] == [(Writer.PLAIN,)] * 5


@pytest.mark.parametrize(
    ("tokens", "counts", "expected"),
    [
        (1, (0, 0, 0), ["plain"]),
        (1, (3, 1, 0), ["correction"]),
        (3, (3, 3, 2), ["accepted", "accepted", "correction"]),
        (3, (2, 2, 2), ["accepted", "accepted", "bonus"]),
        (2, (3, 2, 2), ["accepted", "accepted"]),  # the second ended the text
    ],
)
def test_writers(tokens, counts, expected):
    assert writers(tokens, counts) == tuple(expected)


def test_a_text_that_ends_with_an_accepted_draft_has_no_token_behind_it(pairs, prompts):
    pair, sampler, stop = _standard(pairs, "same")
    first = next(stream_rounds(pair, sampler, stop, prompts[0], coins(), Limits(11, Sampling(0.0)))).tokens.tolist()
    ends = type(pair)(pair.target, pair.drafter, (first[1],))
    (only,) = stream_rounds(ends, sampler, stop, prompts[0], coins(), Limits(11, Sampling(0.0)))
    expected = first[: first.index(first[1]) + 1]
    assert only.tokens.tolist() == expected
    assert only.who == (Writer.ACCEPTED,) * len(expected)
