"""Intake of recordings: every file is read, checked, cleaned and described in one way."""
