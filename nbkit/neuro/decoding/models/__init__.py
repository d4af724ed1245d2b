"""Published EEG foundation models, and how a recording is brought into the form that each expects."""
