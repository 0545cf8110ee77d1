"""What to decode with: candidates by predicted speed, confirmed by the clock."""
