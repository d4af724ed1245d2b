"""Figures with units on all axes and a baseline beside every score."""
