"""What other engines read, derived from a package."""
