"""Stimuli, their features, and the teacher's predictions for them."""
