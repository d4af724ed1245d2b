"""Stimulus runs: features, teacher predictions and fMRI on one time grid."""
