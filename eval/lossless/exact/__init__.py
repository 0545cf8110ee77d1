"""Exact distributions of the production engine, with every branch taken."""
