"""Floor 2 stays a floor: light to import, and knows nothing of the other."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = [
    "nbkit.neuro.signals.bands",
    "nbkit.neuro.signals.eeg",
    "nbkit.neuro.signals.splits",
    "nbkit.neuro.signals.recordings.synthetic",
    "nbkit.neuro.plots.rollout",
    "nbkit.neuro.bandvar.train",
    "nbkit.neuro.bandvar.plot_rollout",
]


def heavy_after(statement):
    heavy = ("torch", "mne", "matplotlib", "nbkit.runtime")
    code = f"{statement}\nimport sys\nprint([m for m in {heavy} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("module", MODULES)
def test_nothing_heavy_is_imported_before_it_is_used(module):
    assert heavy_after(f"import {module}") == "[]"


def test_the_probe_can_fail():
    assert heavy_after("import matplotlib") == "['matplotlib']"
