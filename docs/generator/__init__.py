"""Writes the pages of the documentation that follow from the code and from the result files: ``python -m docs.generator``."""
