"""Make, load and run vocabulary-pruned drafters for speculative decoding."""
