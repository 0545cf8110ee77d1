"""Text to count, generate from and train on."""
