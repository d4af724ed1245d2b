"""Recordings, windows, bands and splits: what every system reads its data through."""
