"""NeuroFM: one model for spikes of many recordings, and how far more of them help."""
