"""How to train: rates, optimizers, rivals, baselines, and weights passed from phase to phase."""
