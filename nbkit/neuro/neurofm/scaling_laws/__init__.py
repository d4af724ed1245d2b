"""Scaling of scores with data, model size and compute, and its costs."""
