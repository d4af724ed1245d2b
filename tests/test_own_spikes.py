"""The walk with spikes of docs/recordings.md: a folder of NWB files, one of them broken, by notebooks, to a score."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from tests.readme import commands


def write_track(path, seed: int) -> None:
    """Write 200 s of a rat on a line of 100 cm: twelve units with place fields, and the position."""
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.behavior import Position

    draws = np.random.default_rng(seed)
    times = np.arange(0, 200, 0.05)
    place = 50 + 50 * np.sin(times / 4 + seed)
    file = NWBFile("made for a test", "id", datetime(2026, 1, 1, tzinfo=UTC))
    for centre in np.linspace(0, 100, 12):
        rate = 0.5 + 25 * np.exp(-((place - centre) ** 2) / 200)
        file.add_unit(spike_times=np.sort(np.repeat(times, draws.poisson(0.05 * rate)) + 0.04 * draws.random()))
    position = Position(name="Position")
    position.create_spatial_series("position", place[:, None], "start of the line", unit="cm", timestamps=times)
    file.create_processing_module("behavior", "position").add(position)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)


@pytest.mark.notebook
@pytest.mark.timeout(600)  # a guard against hanging; about a minute on a quiet machine
def test_a_folder_of_spikes_becomes_a_score_beside_bayes(root, tmp_path):
    (tmp_path / "recordings").mkdir()
    for number in range(2):
        write_track(tmp_path / "recordings" / f"rat{number}.nwb", number)
    (tmp_path / "recordings" / "cut.nwb").write_bytes(b"\x89HDF")
    walk = [
        command
        for command in commands((root / "docs" / "recordings.md").read_text("utf-8"))
        if "--store spike-store" in command
    ]
    assert len(walk) == 2
    said = []
    for command in walk:
        run = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        said.append(run.stdout + run.stderr)
    assert "cut.nwb (4 bytes) cannot be opened as HDF5" in said[0] and "rat1: 12 units (spikes)" in said[0]
    assert "rat0  Bayes  R2" in said[1] and "blocks" in said[1], said[1][-3000:]
    results = json.loads((tmp_path / "spike-store" / "neurofm_validate" / "results.json").read_text())
    score, error = (results["metrics"][name] for name in ("test_r2_neurofm", "test_error_bayes_rat0"))
    assert score["value"] > 0.5 and error["value"] < 10 < error["baseline"]  # in cm
    assert results["data"] == "real", "nothing in the file says that it was made here"
