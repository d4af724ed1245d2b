"""Kaggle: push phases, read the quota and the runs, and dispatch what still has work."""
