"""Scores, figures and pages of a phase, as files in the store."""
