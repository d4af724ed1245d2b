"""Windows of spikes: cut, stored, mapped, split in time."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.signals.spikes.behaviour import Behaviour
from nbkit.neuro.signals.spikes.binned import bin_recording
from nbkit.neuro.signals.spikes.recording import SpikeRecording
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_recordings
from nbkit.neuro.signals.spikes.windows import SpikeShard, split_time, write_windows

SMALL = PopulationSettings(units=5, duration_s=12.0, bin_s=0.02)


def test_windows_come_back_as_they_were_cut(tmp_path):
    binned = simulate_recordings(2, SMALL)
    shards = [SpikeShard(path) for path in write_windows(tmp_path, binned, n_bins=50)]
    for shard, given in zip(shards, binned, strict=True):
        assert (len(shard), shard.n_bins, shard.n_units) == (12, 50, 5) and isinstance(shard.counts, np.memmap)
        assert np.array_equal(np.concatenate(list(shard.counts)), given.counts)
        assert np.allclose(np.concatenate(list(shard.behaviour)), given.behaviour, atol=1e-4)
        assert np.allclose(shard.mean_counts, given.counts.mean(axis=0)) and shard.snr == given.snr
        assert np.array_equal(shard.truth("base"), given.truth["base"])
        assert shard.next_window.tolist() == [*range(1, 12), -1]
    assert shards[0].name != shards[1].name and shards[0].unit_ids == shards[1].unit_ids  # apart by the recording
    again = pickle.loads(pickle.dumps(shards[0]))
    assert np.array_equal(again.counts, shards[0].counts)


def test_a_break_in_the_recording_has_no_next_window(tmp_path):
    arrays = simulate_recordings(1, SMALL)[0].windows(50)
    kept = [0, 1, 4, 5]
    arrays |= {key: arrays[key][kept] for key in ("counts", "behaviour", "starts")}
    np.savez(tmp_path / "r.npz", **arrays)
    assert SpikeShard(tmp_path / "r.npz").next_window.tolist() == [1, -1, 3, -1]


def test_sides_in_time_are_a_gap_apart(tmp_path):
    shard = SpikeShard(write_windows(tmp_path, simulate_recordings(1, SMALL), 50)[0])
    train, val, test = split_time(shard, (0.5, 0.25, 0.25), gap_s=2.0)
    assert (train.tolist(), val.tolist(), test.tolist()) == ([*range(6)], [8], [11])
    assert shard.starts[val[0]] - (shard.starts[train[-1]] + 1.0) == pytest.approx(2.0)
    train, val, test = split_time(shard, (0.75, 0.0, 0.25))
    assert (train.tolist(), val.tolist(), test.tolist()) == ([*range(9)], [], [9, 10, 11])
    with pytest.raises(ValueError, match="one side gets none"):
        split_time(shard, (0.1, 0.1, 0.8), gap_s=5.0)
    with pytest.raises(ValueError, match="no shares"):
        split_time(shard, (0.5, 0.6, 0.2))


def test_spikes_and_behaviour_lie_in_the_same_bins():
    angle = Behaviour(np.arange(0, 4, 0.05), np.arange(0, 4, 0.05), "rad", circular=True)
    made = SpikeRecording("r", (np.array([1.01, 3.2]),), ("u",), (0.0, 4.0), behaviour={"angle": angle})
    binned = bin_recording(made, 0.5, "angle")
    assert binned.counts[:, 0].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    assert np.arctan2(binned.behaviour[4, 1], binned.behaviour[4, 0]) == pytest.approx(2.225, abs=0.02)
    assert bin_recording(made, 0.5).windows(4)["behaviour"].shape == (2, 4, 0)
    with pytest.raises(ValueError, match="no behaviour 'speed'; it has angle"):
        bin_recording(made, 0.5, "speed")
    with pytest.raises(ValueError, match="has 8 bins .* a window 9"):
        binned.windows(9)
    with pytest.raises(ValueError, match="0 or more"):
        replace(binned, counts=binned.counts - 1.0).windows(4)


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", counts=np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="lacks name.*holds no spike windows"):
        SpikeShard(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError, match="cut them first"):
        SpikeShard(tmp_path / "y.npz")


def test_blocks_give_every_side_windows_of_the_whole_recording(tmp_path):
    made = simulate_recordings(1, replace(SMALL, duration_s=80.0), seed=1)
    shard = SpikeShard(write_windows(tmp_path, made, 50)[0])
    sides = split_time(shard, (0.6, 0.1, 0.3), blocks=4)
    every = np.concatenate(sides)
    assert len(every) == len(set(every)) == 80, "each window once, none unused without a gap"
    assert [len(side) for side in sides] == [48, 8, 24]
    assert all(np.ptp(shard.starts[side]) > 55 for side in sides)
    apart = split_time(shard, (0.6, 0.1, 0.3), gap_s=1.0, blocks=4)
    placed = sorted((shard.starts[w], n) for n, side in enumerate(apart) for w in side)
    for (start, side), (after, other) in zip(placed[:-1], placed[1:], strict=True):
        assert side == other or after - (start + 1.0) >= 1.0 - 1e-6
