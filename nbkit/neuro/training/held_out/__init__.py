"""Scores on test subjects of a finetuning, and which channels its network uses there."""
