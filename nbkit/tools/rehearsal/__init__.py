"""Rehearsals: run notebooks in short sessions that are killed, and report what was lost."""
