"""Exact token counts of a stream of texts."""
