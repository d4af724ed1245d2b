"""Importing nbkit: quick, and without torch

The times are of fresh interpreters, less the time that an empty interpreter takes, beside the import of torch.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from tests.bench.rows import Row

_SHARE = 0.25  # of torch's own import, which every training waits for anyway
_HEAVY = ("torch", "lightning", "mne", "matplotlib", "pandas", "numpy")


def run(quick: bool) -> list[Row]:
    """Measure the import of the package and of what opens a session."""
    rounds = 3 if quick else 7
    empty, rows = _seconds("pass", rounds), []
    torch = _seconds("import torch", rounds) - empty
    for code, what in (("import nbkit", "import nbkit"), ("import nbkit; nbkit.open_session", "and open_session")):
        loaded = f"{code}\nimport sys\nsys.exit([m for m in {_HEAVY!r} if m in sys.modules and m != 'numpy'] != [])"
        seconds = _seconds(loaded, rounds) - empty
        met, target = seconds <= _SHARE * torch, f"<= {_SHARE} of it"
        rows.append(Row(what, seconds, "s", "import torch", torch, target, met, "no torch loaded"))
    return rows


def _seconds(code: str, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
