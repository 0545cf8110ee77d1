"""What drafts on the target's own text would have met: prompts, labels, files."""
