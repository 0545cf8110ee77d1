"""Randomness named by keys: nothing else in the library draws."""
