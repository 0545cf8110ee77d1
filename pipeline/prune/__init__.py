"""Choosing the kept tokens: what is counted, what a choice covers of text that it has not seen, what is said of it."""
