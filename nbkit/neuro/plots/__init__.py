"""Figures whose axes carry units and whose scores stand beside their baseline."""
