"""Stop policies: how many tokens to draft before the target verifies. A policy decides not to draw more, it never drops a drawn token."""
