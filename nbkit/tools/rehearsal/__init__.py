"""Notebooks run in short sessions that are killed, and what became of the work."""
