"""Steps of a training: taken in parts, and the memory that they need."""
