"""The drafter's and the target's side of distributed decoding."""
