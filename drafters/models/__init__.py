"""A target, a drafter, and the forms that a drafter's head can take."""
