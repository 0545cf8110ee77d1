"""`make watch`: an answer as it is written, token by token, by whom and how fast."""
