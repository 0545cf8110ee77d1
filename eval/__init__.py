"""Measuring drafters: prompts, laws, costs, metrics and reports."""
