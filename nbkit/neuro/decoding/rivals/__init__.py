"""Baselines: decoders without any pretraining, which a foundation model should beat."""
