"""fMRI: surfaces, atlases, BOLD series, and the haemodynamic response."""
