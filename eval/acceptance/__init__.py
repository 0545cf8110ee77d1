"""What could be accepted, by formula, and what was, by the distributions that rounds logged."""
