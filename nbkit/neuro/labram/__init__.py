"""LaBraM: an EEG foundation model pretrained by predicting the codes of masked patches."""
