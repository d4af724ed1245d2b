"""Colab, unattended, through its own command-line client."""
