"""Scores of decoders, with intervals, paired tests and chance levels over subjects."""
