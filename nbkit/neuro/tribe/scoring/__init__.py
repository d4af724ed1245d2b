"""Scores of an encoding model: its rivals, correlations with intervals, ceilings, and maps."""
