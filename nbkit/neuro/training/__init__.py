"""Training: learning rates, optimizers, comparison models, baselines, and weights passed between phases."""
