"""Tests of the intake of recordings."""
