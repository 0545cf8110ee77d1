"""Samplers: a proposal (what drafts are drawn from), a verifier (which drafts become output), a draft tree's shape."""
