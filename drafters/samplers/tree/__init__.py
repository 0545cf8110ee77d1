"""What tree verifiers share: the walk down a tree, the draws of siblings, the shape of a node budget."""
