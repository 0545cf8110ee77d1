"""The drafter's part of a round: a chain, a tree, or text; q is drawn from here and kept."""
