"""Batches of spike recordings: pools, curriculum, and padded windows."""
