"""What other engines read, derived from a package: one file for each format."""
