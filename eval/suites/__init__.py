"""Prompt suites: what drafters are measured on."""
