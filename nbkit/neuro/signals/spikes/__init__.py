"""Spike recordings, and the windows cut from them."""
