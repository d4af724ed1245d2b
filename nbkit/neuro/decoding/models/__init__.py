"""Published EEG foundation models, and the preparation of recordings for each of them."""
