"""What a training must have in common with its checkpoint to resume."""
