"""JEPA: an EEG encoder pretrained by predicting the latents of a window's second half from its first."""
