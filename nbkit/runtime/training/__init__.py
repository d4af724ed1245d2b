"""Training across sessions: checkpoints, exact resume, and the order of the data."""
