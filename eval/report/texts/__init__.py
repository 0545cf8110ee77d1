"""A few answers, token by token: who wrote each, and what both models thought of it."""
