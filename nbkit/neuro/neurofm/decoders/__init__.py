"""Rival decoders, and scores of decoders with intervals."""
