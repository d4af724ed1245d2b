"""Windows of recordings, written as shards and read through memory maps."""
