"""Stimuli: finding and decoding them, their features, and what a teacher predicts for them."""
