"""Benchmarks: speed as ratios inside one run, rivals and ceilings beside it. One subject, one file."""
