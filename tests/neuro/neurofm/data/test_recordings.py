"""Files of windows, from what a person names or from a simulation that says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.neurofm.data.recordings import prepare_recordings
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings
from nbkit.neuro.signals.spikes.windows import SpikeShard
from tests.neuro.neurofm.spike_files import TINY

SMALL = PopulationSettings(units=4, duration_s=20.0)


def test_simulated_recordings_say_so_and_are_the_same_anywhere(tmp_path):
    first, again = (prepare_recordings(tmp_path / name, TINY, population=SMALL, count=3) for name in "ab")
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes()
    shards = [SpikeShard(path) for path in first]
    assert all("stand-in" in shard.data for shard in shards)
    assert (shards[0].n_bins, shards[0].bin_s) == (TINY.n_bins, TINY.bin_s)
    assert shards[0].snr > shards[2].snr


def test_an_nwb_file_is_cut_to_what_was_measured(shared_data, tmp_path):
    folder = shared_data / "spikes_hd_mouse"
    if not folder.is_dir():
        pytest.skip("the mouse's recording (../shared/data/spikes_hd_mouse) is not here")
    settings = replace(TINY, bin_s=0.2, n_bins=50)
    (path,) = prepare_recordings(tmp_path, settings, folder, "ry")
    shard = SpikeShard(path)
    assert shard.data == "real" and shard.circular and shard.task == "ry" and shard.n_units == 15
    assert shard.starts[0] == pytest.approx(670.64, abs=0.01) and len(shard) == 52
    assert np.isfinite(shard.behaviour).all() and np.allclose((shard.behaviour**2).sum(axis=2), 1, atol=1e-3)


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no NWB file \(\*\.nwb\)\. Download"):
        prepare_recordings(tmp_path / "out", TINY, [tmp_path])
