"""Verifiers: which drafted tokens become output, so that the output's law is the target's. One paper, one file."""
