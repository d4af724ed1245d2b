"""Signals: EEG, spikes and fMRI recordings, and the windows cut from them."""
