"""What samplers will do, by expectation: p and q on the target's own text, and every rule's chances on them."""
