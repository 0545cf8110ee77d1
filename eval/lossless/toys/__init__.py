"""Toy models and policies of the gate: small enough that every branch can be run."""
