"""The losslessness gate: exact distributions, powered statistics, invariances and planted bugs, for every sampler."""
