"""The EEG Challenge 2025: its metrics, its zip, and scoring a zip as the challenge does."""
