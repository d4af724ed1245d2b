"""NeuroFM: one model for the spikes of many recordings, and experiments on its scaling."""
