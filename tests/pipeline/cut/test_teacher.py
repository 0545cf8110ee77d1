"""The teacher's cache says what the teacher says, is made once, and is found by what decides it."""

import pytest
import torch

from pipeline.cut import teacher
from pipeline.cut.columns import Head
from pipeline.cut.teacher import packed, shard_path
from pipeline.cut.text import documents, groups, part_of


@pytest.mark.floats
def test_the_cached_law_is_the_targets(target, cache):
    head = Head.of(target, 1.0)
    for number in (0, 5, 70):
        answers = cache[number]
        assert torch.equal(answers.ids, cache.documents[number].ids)
        found = (head(answers.hidden) - answers.log_total[:, None]).exp()
        torch.testing.assert_close(found.sum(-1), torch.ones(len(found)))  # of what was rounded, not of what was not
        expected = target(answers.ids[None]).logits[0].softmax(-1)
        assert float((found - expected).abs().sum(-1).max()) < 0.1  # bf16 hidden states: 2^-8 of logits of tens
        assert float((found - expected).abs().sum(-1).mean()) < 0.02


def test_a_killed_reading_goes_on_to_the_same_bytes(target, grouped, cache, tmp_path):
    paths = [shard_path(tmp_path, "toy", group) for group in grouped]
    read = []

    def advance(n=1, *, kept=False):
        read.append((n, kept))
        if len(read) == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher.fill(paths, grouped, lambda: target, 1.0, advance)
    there = [path for path in paths if path.exists()]
    assert 0 < len(there) < len(paths)
    before = there[0].stat().st_mtime_ns
    teacher.fill(paths, grouped, lambda: target, 1.0)
    assert there[0].stat().st_mtime_ns == before
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in cache.paths]
    teacher.fill(paths, grouped, lambda: pytest.fail("all is there: no target is needed"), 1.0)
    assert not list(tmp_path.glob(".*"))


def test_a_shard_is_named_by_all_that_decides_it(grouped, tmp_path):
    one, other = grouped[:2]
    names = {shard_path(tmp_path, identity, group) for identity in ("a", "b") for group in (one, other, one[:-1])}
    assert len(names) == 6
    assert shard_path(tmp_path, "a", one) in names


def test_two_answers_to_one_prompt_are_in_one_part(text):
    found = list(documents([text], 24, 0.4))
    parts = {}
    for document in found:
        parts.setdefault(tuple(document.ids[: document.prompt].tolist()), set()).add(document.part)
    assert len(parts) == 48
    assert all(len(some) == 1 for some in parts.values())
    assert {part for some in parts.values() for part in some} == {"fit", "calibrate", "test"}
    assert {part_of(torch.arange(n), 1e-9) for n in range(1, 9)} == {"fit"}


def test_the_answer_begins_where_its_first_token_is_predicted(text):
    for document in documents([text], 10, 0.4):
        assert len(document.ids) <= 10
        assert document.answer == slice(document.prompt - 1, len(document.ids) - 1)
    short = next(iter(documents([text], 3, 0.4)))  # the window ends within the prompt: one position is left to measure
    assert (short.answer.start, short.answer.stop) == (1, 2)


def test_groups_and_batches_hold_everything_once():
    assert [len(group) for group in groups(range(70), 32)] == [32, 32, 6]
    lengths = [5, 9, 3, 3, 20, 4]
    order = sorted(range(6), key=lengths.__getitem__)
    batches = packed(order, lengths, 12)
    assert [number for batch in batches for number in batch] == order
    assert all(len(batch) * max(lengths[n] for n in batch) <= 12 for batch in batches if len(batch) > 1)
    assert [4] in batches  # longer than the budget: alone
