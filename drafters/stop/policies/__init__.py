"""Stop policies. One rule, one file."""
