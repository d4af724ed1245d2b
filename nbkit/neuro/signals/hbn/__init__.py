"""The Healthy Brain Network's EEG: releases, recordings, windows, and a synthetic copy."""
