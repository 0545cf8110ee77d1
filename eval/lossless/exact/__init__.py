"""Exact laws of the production engine, with every branch taken."""
