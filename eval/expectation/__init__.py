"""What samplers will do, by expectation: both models' laws on the target's own text, and every rule's chances on them."""
