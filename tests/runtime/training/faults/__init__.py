"""Trainings whose surroundings fail: at the n-th operation, or at a loss of power."""
