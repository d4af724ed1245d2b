"""What a training shows while it runs, and logs in the formats of others."""
