"""A joint-embedding model of EEG whose latents are a trait, a state and an event block."""
