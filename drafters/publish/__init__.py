"""A package on the Hub: its card, its licence, its upload."""
