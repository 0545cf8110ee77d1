"""What is fitted to the target's distributions: low-rank tails, heads, norms."""
