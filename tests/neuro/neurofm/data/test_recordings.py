"""Files of windows: those of phase 49 with their bins, or a simulation that says so."""

from __future__ import annotations

from dataclasses import replace

from nbkit.neuro.neurofm.data.recordings import open_recordings
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings
from nbkit.neuro.signals.spikes.windows import SpikeShard
from tests.neuro.neurofm.spike_files import TINY, write_populations

SMALL = PopulationSettings(units=4, duration_s=20.0)


def test_simulated_recordings_say_so_and_are_the_same_anywhere(tmp_path):
    (first, kept), (again, _) = (open_recordings((), tmp_path / name, TINY, population=SMALL, count=3) for name in "ab")
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes()
    shards = [SpikeShard(path) for path in first]
    assert all("stand-in" in shard.data for shard in shards)
    assert (shards[0].n_bins, shards[0].bin_s) == (TINY.n_bins, TINY.bin_s) and kept == TINY
    assert shards[0].snr > shards[2].snr


def test_the_settings_get_the_bins_of_the_files(tmp_path):
    paths = write_populations(tmp_path, units=(4, 6))
    found, settings = open_recordings(paths[::-1], tmp_path / "none", replace(TINY, n_bins=99, bin_s=1.0))
    assert found == paths and not (tmp_path / "none").exists()
    assert settings == replace(TINY, bin_s=SpikeShard(paths[0]).bin_s)
