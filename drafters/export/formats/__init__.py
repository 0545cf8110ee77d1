"""The formats of other engines: one engine, one file."""
