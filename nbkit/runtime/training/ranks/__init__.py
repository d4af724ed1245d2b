"""Several processes in one training: starting them, meeting, and watching."""
