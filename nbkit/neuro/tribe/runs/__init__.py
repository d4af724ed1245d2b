"""Stimuli and responses on the scanner's time grid."""
