"""Figures on the head: values of EEG channels at their places."""
