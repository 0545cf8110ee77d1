"""Checks of outputs on real weights: greedy identity, likelihood, identity of races."""
