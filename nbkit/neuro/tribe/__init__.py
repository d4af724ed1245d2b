"""Tiny-TRIBE v3: a small student of a brain-encoding teacher, from cached features to brain maps."""
