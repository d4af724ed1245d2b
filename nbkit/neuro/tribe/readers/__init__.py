"""Readers of public and own data sets: stimuli with timed words, and fMRI runs."""
