"""Fixed-length windows: cutting them, storing them in shards, and splitting them by subject."""
