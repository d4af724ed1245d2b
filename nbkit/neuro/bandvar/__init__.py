"""Band-VAR: predict the next cumulative frequency band of an EEG window from the bands below it."""
