"""fMRI signals: BOLD series, haemodynamic response, surfaces and atlases."""
