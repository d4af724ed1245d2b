"""Scores and submissions of the EEG Challenge 2025."""
