"""Continuous EEG recordings, from files or synthetic."""
