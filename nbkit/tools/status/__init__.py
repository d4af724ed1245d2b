"""The progress of every phase, read from the store, and its verification."""
