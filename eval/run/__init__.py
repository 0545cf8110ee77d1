"""Runs of drafters, samplers and stop policies on the same prompts, and the records they leave."""
