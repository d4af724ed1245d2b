"""Stores: where things survive."""
