"""Distributed speculative inference on paper and in virtual time."""
