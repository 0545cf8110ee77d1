"""More than one machine: the same work on a Ray cluster."""
