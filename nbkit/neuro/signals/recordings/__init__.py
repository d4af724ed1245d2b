"""Sources of EEG recordings."""
