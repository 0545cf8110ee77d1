"""Token counts, shard by shard, here or on a cluster."""
