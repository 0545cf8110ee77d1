"""Tunstall shapes: the published values, and no other tree of the budget is better."""

import itertools
import random

import pytest

from drafters.samplers.draft import Tree
from drafters.samplers.tree.tunstall import tunstall
from tests.drafters.samplers.tree.rank_value import expected_accepted

RHO = (0.54285714, 0.23333333, 0.14285714, 0.08095238)  # p = (.4, .3, .2, .1), q = (.1, .2, .3, .4)


@pytest.mark.parametrize(("nodes", "generated"), [(1, 1.543), (4, 2.231), (16, 3.258), (64, 4.408), (1024, 6.794)])
def test_tokens_per_forward_of_the_worked_example(nodes, generated):
    tree = tunstall(RHO, nodes)
    assert sum(map(sum, tree.levels)) == nodes
    assert 1 + expected_accepted(tree, RHO) == pytest.approx(generated, abs=5e-4)


def all_trees(nodes: int):
    """Every shape of that many nodes: breadth-first numbers of children."""
    for counts in itertools.product(range(nodes + 1), repeat=nodes):  # of the root and of all nodes but the last
        level, levels, rest = 1, [], list(counts)
        while level and len(rest) >= level:
            levels.append(tuple(rest[:level]))
            rest = rest[level:]
            level = sum(levels[-1])
        if sum(map(sum, levels)) == nodes:
            yield Tree(tuple(own for own in levels if sum(own)))


@pytest.mark.parametrize("seed", range(5))
def test_no_tree_of_the_budget_is_better(seed):
    generator = random.Random(seed)
    rho = sorted((generator.random() for _ in range(3)), reverse=True)
    rho = [share / sum(rho) for share in rho]
    for nodes in (1, 2, 3, 4, 5):
        best = max(expected_accepted(tree, rho) for tree in all_trees(nodes))
        assert expected_accepted(tunstall(rho, nodes), rho) == pytest.approx(best, abs=1e-12)


def test_a_certain_first_rank_gives_a_chain_and_a_depth_limit_a_wide_tree():
    assert tunstall([1.0], 4) == Tree(((1,), (1,), (1,), (1,)))
    assert tunstall(RHO, 3, depth=1) == Tree(((3,),))
    assert len(tunstall([0.9, 0.05], 20, depth=4).levels) == 4


def test_a_law_that_is_not_monotone_never_skips_a_rank():
    tree = tunstall((0.3548, 0.2115, 0.2300, 0.1991, 0.0047), 40)  # the third is likelier than the second
    assert sum(map(sum, tree.levels)) == 40
    assert tree == tunstall((0.3548, 0.2115, 0.2115, 0.1991, 0.0047), 40)


def test_fewer_nodes_where_the_law_has_too_few_ranks():
    assert tunstall([0.5, 0.2], 10, depth=1) == Tree(((2,),))


@pytest.mark.parametrize(
    ("rank_law", "nodes", "depth"),
    [
        ([], 3, None),
        ([0.0, 0.5], 3, None),
        ([0.7, 0.7], 3, None),
        ([0.5, -0.1], 3, None),
        ([0.5], 0, None),
        ([0.5], 3, 0),
    ],
)
def test_impossible_requests_are_refused(rank_law, nodes, depth):
    with pytest.raises(ValueError, match=r"rank_law must hold|needs nodes >= 1"):
        tunstall(rank_law, nodes, depth)


@pytest.mark.parametrize("branching", [(), (0,), ((0,),), (2, (1,)), (2, (0, 0)), ((2, 1),), (2, (1, -1))])
def test_impossible_shapes_are_refused(branching):
    with pytest.raises(ValueError, match="tree branching must"):
        Tree(branching)


def test_levels_count_the_children_of_each_node():
    assert Tree((3, 2)).levels == [[3], [2, 2, 2]]
    assert Tree((2, (2, 0), 1)).levels == [[2], [2, 0], [1, 1]]
