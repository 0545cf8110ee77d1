"""The sweep over sizes: one size, and the passes over text that serve all of them."""
