"""Recordings to experiment on: the same made-up ones again and again, or a folder that has enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbkit.neuro.neurofm.model import NeuroFMSettings
from nbkit.neuro.neurofm.recordings import open_recordings
from nbkit.neuro.signals.spike_windows import SpikeShard
from nbkit.neuro.signals.synthetic_spikes import STAND_IN, PopulationSettings
from tests.neuro.neurofm.spike_files import write_populations

SETTINGS = NeuroFMSettings.smoke()
WORLD = replace(PopulationSettings.smoke(), units=5, duration_s=10.0, bin_s=0.005)


def test_made_up_recordings_are_the_same_on_every_machine_and_say_what_they_are(tmp_path):
    first = open_recordings(None, tmp_path / "a", 3, SETTINGS, WORLD)
    again = open_recordings(None, tmp_path / "b", 4, SETTINGS, WORLD)
    assert first.data == STAND_IN and "3 recordings, 5 to 5 units, 10 to 10 windows each" in first.words
    for one, other in zip(first.paths, again.paths, strict=False):
        assert (SpikeShard(one).counts == SpikeShard(other).counts).all()
    shard = SpikeShard(first.paths[0])
    assert (shard.n_bins, shard.bin_s) == (SETTINGS.n_bins, SETTINGS.bin_s), "bins are the model's"


def test_a_folder_gives_its_recordings_by_name(tmp_path):
    write_populations(tmp_path, units=(4, 6))
    found = open_recordings(tmp_path, tmp_path / "none", 2, SETTINGS, WORLD)
    assert found.units == (4, 6) and not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="holds 2 recordings, and 3 are needed"):
        open_recordings(tmp_path, tmp_path, 3, SETTINGS, WORLD)
    with pytest.raises(FileNotFoundError, match="no .npz of spike windows"):
        open_recordings(tmp_path / "empty", tmp_path, 1, SETTINGS, WORLD)
