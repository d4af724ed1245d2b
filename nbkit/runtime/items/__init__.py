"""The item loop: pending items, done here or by an executor, and their outputs."""
