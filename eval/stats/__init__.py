"""Statistical tests with their power."""
