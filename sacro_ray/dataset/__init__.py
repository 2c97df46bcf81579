"""From tables to shards to batches."""
