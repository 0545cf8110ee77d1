"""Compiled forwards: the only place that touches private parts of torch."""
