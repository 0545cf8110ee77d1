"""What could be accepted, by formula, and what was, by the laws that rounds logged."""
