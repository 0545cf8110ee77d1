"""Samplers: a proposal (which law drafts are drawn from), a verifier (which drafts become output), the shape of the draft tree."""
