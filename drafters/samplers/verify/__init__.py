"""Verifiers: which drafted tokens become output, so that it has the target's distribution. One paper, one file."""
