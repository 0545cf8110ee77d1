"""docs/results.md and README's table of results: every figure out of a file of eval/results."""
