"""Fitting a low-rank tail: rank, training, measurement."""
