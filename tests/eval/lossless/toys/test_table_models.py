"""Table models: their cache gives the laws that no cache gives, and takes instructions literally."""

import pytest
import torch

from drafters.vocab.alignment import validate
from eval.lossless.toys.table_models import Table, TableModel, foreign_pair, pruned_pair

TABLE = Table.random(4, 0)


def chain(*rows):
    return torch.tensor(rows)


def test_a_chain_fed_in_pieces_equals_no_cache():
    model = TableModel(TABLE, rows=2, capacity=6)
    model.extend(chain([0, 1], [2, 3]), logits=False)
    logits = model.extend(chain([3, 2, 1], [1, 1, 0]))
    assert torch.equal(logits[0, 2], TABLE.after([0, 1, 3, 2, 1]))
    assert torch.equal(logits[1, 0], TABLE.after([2, 3, 1]))


def test_rows_of_different_lengths_and_roll_back():
    model = TableModel(TABLE, rows=2, capacity=8)
    model.extend(chain([0, 1, 2], [3, -1, -1]), counts=[3, 1])
    model.keep([[1], []])  # row 0 keeps two tokens, row 1 stays
    assert model.lengths == [2, 1]
    logits = model.extend(chain([3], [0]))
    assert torch.equal(logits[0, 0], TABLE.after([0, 1, 3]))
    assert torch.equal(logits[1, 0], TABLE.after([3, 0]))


def test_a_forgotten_roll_back_changes_the_law():
    model = TableModel(TABLE, rows=1, capacity=8)
    model.extend(chain([0, 1, 2]))
    assert not torch.equal(model.extend(chain([3]))[0, 0], TABLE.after([0, 1, 3]))


def test_trees_and_compaction():
    model = TableModel(TABLE, rows=1, capacity=10)
    model.extend(chain([0, 1]))
    # slots 2 and 3 are siblings under slot 1, slot 4 is a child of 3, slot 5 a child of 2
    logits = model.extend(chain([2, 3, 1, 0]), parents=chain([1, 1, 3, 2]))
    assert torch.equal(logits[0, 1], TABLE.after([0, 1, 3]))
    assert torch.equal(logits[0, 2], TABLE.after([0, 1, 3, 1]))
    assert torch.equal(logits[0, 3], TABLE.after([0, 1, 2, 0]))
    model.keep([[1, 3, 4]])
    assert model.lengths == [4]
    assert torch.equal(model.extend(chain([2]))[0, 0], TABLE.after([0, 1, 3, 1, 2]))


def test_a_block_forgets_what_was_before_it():
    table = Table(TABLE.logits, block=3)
    assert torch.equal(table.after([0, 1, 2]), table.after([3, 3, 3]))
    assert torch.equal(table.after([0, 1, 2, 3]), table.after([1, 1, 1, 3]))
    assert not torch.equal(table.after([0, 1, 2, 3]), table.after([0, 1, 2, 0]))
    logits = TableModel(table, rows=1, capacity=8).extend(chain([0, 1, 2, 3, 1, 0, 2]))[0]
    assert all(torch.equal(logits[n - 1], table.after([0, 1, 2, 3, 1, 0, 2][:n])) for n in range(1, 8))


def test_capacity_is_enforced():
    with pytest.raises(ValueError, match="at most 2 slots, got 3"):
        TableModel(TABLE, rows=1, capacity=2).extend(chain([0, 1, 2]))


def test_contexts_differ_by_order_and_length():
    laws = [TABLE.after(prefix) for prefix in ([0, 1], [1, 0], [0], [0, 1, 1], [1])]
    assert len({tuple(law.tolist()) for law in laws}) == len(laws)


def test_pairs_have_valid_maps():
    for pair in (pruned_pair(4, [0, 3], 1), foreign_pair(1)):
        validate(pair.vocab)
    pair = foreign_pair(1)
    assert pair.prompt([2, 0, 3]) == [2, 1, 1]
    assert pair.feed_one(torch.tensor([0, 1, 2, 3, -1])).tolist() == [1, 0, -1, -1, -1]
    assert pair.expansion == 2
