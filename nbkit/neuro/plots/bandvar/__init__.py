"""Figures of Band-VAR's controls and uses."""
