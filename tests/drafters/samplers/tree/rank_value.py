"""What a tree is worth where the ranks of the target's tokens are independent: the objective of Tunstall shapes."""


def expected_accepted(tree, rank_law):
    """Expected number of accepted nodes if ranks are independent draws of this: the sum of all nodes' probabilities."""
    total, values = 0.0, [1.0]
    for level in tree.levels:
        values = [
            value * (rank_law[rank] if rank < len(rank_law) else 0.0)
            for value, count in zip(values, level, strict=True)
            for rank in range(count)
        ]
        total += sum(values)
    return total
