"""State that objects hold beside the weights: found, kept in the checkpoint, restored, or refused in words."""
