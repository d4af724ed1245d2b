"""HBN-EEG: the Healthy Brain Network's recordings, their windows, and synthetic ones."""
