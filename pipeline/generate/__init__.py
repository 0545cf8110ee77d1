"""The target as a machine that continues prompts, here, behind a server or on a cluster."""
