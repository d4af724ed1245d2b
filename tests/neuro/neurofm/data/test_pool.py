"""The pool of recordings: the same made-up ones again and again, and never fewer than are needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbkit.neuro.neurofm.data.pool import open_pool
from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.signals.spikes.synthetic import STAND_IN, PopulationSettings
from nbkit.neuro.signals.spikes.windows import SpikeShard
from tests.neuro.neurofm.spike_files import write_populations

SETTINGS = NeuroFMSettings.smoke()
WORLD = replace(PopulationSettings.smoke(), units=5, duration_s=10.0, bin_s=0.005)


def test_made_up_recordings_are_the_same_on_every_machine_and_say_what_they_are(tmp_path):
    first = open_pool((), tmp_path / "a", 3, SETTINGS, WORLD)
    again = open_pool((), tmp_path / "b", 4, SETTINGS, WORLD)
    assert first.data == STAND_IN and "3 recordings, 5 to 5 units, 10 to 10 windows each" in first.words
    for one, other in zip(first.paths, again.paths, strict=False):
        assert (SpikeShard(one).counts == SpikeShard(other).counts).all()
    shard = SpikeShard(first.paths[0])
    assert (shard.n_bins, shard.bin_s) == (SETTINGS.n_bins, SETTINGS.bin_s), "bins are the model's"


def test_made_up_imaging_comes_after_the_spikes_and_is_named(tmp_path):
    found = open_pool((), tmp_path, 2, SETTINGS, WORLD, imaging=1)
    assert [SpikeShard(path).modality for path in found.paths] == ["neuropixels", "neuropixels", "two-photon"]
    assert "calcium events" in found.data and STAND_IN in found.data


def test_given_recordings_get_no_made_up_ones_beside_them_and_too_few_are_refused(tmp_path):
    files = write_populations(tmp_path, units=(4, 6))
    pool = open_pool(files, tmp_path, 2, SETTINGS, WORLD, imaging=3)
    assert pool.units == (4, 6) and pool.settings.n_bins == 20
    with pytest.raises(ValueError, match="There are 2 recordings, but 3 are needed"):
        open_pool(files, tmp_path, 3, SETTINGS, WORLD)
