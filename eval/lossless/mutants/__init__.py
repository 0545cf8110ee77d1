"""Planted bugs, known from real engines or from the papers' traps: every kind of test that can see one must reject it."""
