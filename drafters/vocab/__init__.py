"""Vocabularies: exact token counts, which tokens to keep, and the maps between the target's ids and the drafter's."""
