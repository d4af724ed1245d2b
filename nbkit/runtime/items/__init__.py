"""The item loop: pending items, done in this process or by an executor, and their outputs."""
