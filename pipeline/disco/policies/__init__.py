"""Stop policies tuned on traces and compared on held-out prompts."""
