"""The verdict of an evaluation: few rows, candidates by prediction, the clock on unseen prompts, what to use."""
