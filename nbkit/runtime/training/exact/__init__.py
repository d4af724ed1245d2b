"""State of a training that Lightning's checkpoint leaves out, and what cannot be restored."""
