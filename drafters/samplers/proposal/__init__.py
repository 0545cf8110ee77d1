"""Proposals: how a drafter's law becomes the law over target tokens that drafts are drawn from. One paper, one file."""
