"""Signals and models. Knows no host, no store and no session.

A system (labram, jepa, bandvar, neurofm, tribe, decoding) imports signals, nn, training, challenge and plots, and no
other system.
"""

from __future__ import annotations

from nbkit.ground.mistakes import show_mistakes_in_scripts

show_mistakes_in_scripts()
