"""RDK: where the probability mass of pruned tokens goes, and how much of it."""
