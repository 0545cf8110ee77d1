"""Proposals: how a drafter's q becomes the distribution over target tokens that is drawn from. One paper, one file."""
