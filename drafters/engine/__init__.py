"""The decode engine: one cache per model, drafting, verification, commit and roll-back."""
