"""Measuring drafters: prompts, distributions, costs, metrics and reports."""
