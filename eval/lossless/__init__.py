"""The losslessness gate: exact laws, powered statistics, invariances and planted bugs, for every sampler of the catalog."""
