"""Batches: ragged units, neighbours, sides in time, scales from training alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.neuro.neurofm.data.batches import SpikeData, collate, hold_out_recordings
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_population
from nbkit.neuro.signals.spikes.windows import write_windows
from tests.neuro.neurofm.spike_files import write_populations


def test_units_are_padded_and_keep_their_places(tmp_path):
    data = SpikeData(write_populations(tmp_path, units=(9, 5)), gap_s=1.0)
    windows = data.side("train")
    first, last = windows[0], windows[-1]
    batch = collate([first, last])
    assert batch["counts"].shape == (2, 20, 9) and batch["present"].sum(dim=1).tolist() == [9, 5]
    assert batch["unit"][0].tolist() == [*range(9)] and batch["unit"][1, :5].tolist() == [*range(9, 14)]
    assert torch.equal(batch["counts"][1, :, :5], last["counts"]) and (batch["counts"][1, :, 5:] == 0).all()
    assert np.array_equal(first["counts"], data.shards[0].counts[0])


def test_the_next_window_is_the_one_that_follows_on_the_same_side(tmp_path):
    data = SpikeData(write_populations(tmp_path, units=(4,)), gap_s=1.0)
    windows, train = data.side("train"), data.windows[0][0]
    for index in range(len(train)):
        sample = windows[index]
        assert sample["has_next"] == (index < len(train) - 1)  # the last one's is across the border
        if sample["has_next"]:
            assert torch.equal(sample["next_counts"], windows[index + 1]["counts"])


def test_sides_lie_apart_and_scales_are_those_of_training(tmp_path):
    data = SpikeData(write_populations(tmp_path), gap_s=1.5)
    for shard, (train, val, test) in zip(data.shards, data.windows, strict=True):
        length = shard.n_bins * shard.bin_s
        assert shard.starts[val[0]] - shard.starts[train[-1]] - length >= 1.5 - 1e-6
        assert shard.starts[test[0]] - shard.starts[val[-1]] - length >= 1.5 - 1e-6
    values = np.concatenate([s.behaviour[w[0]].reshape(-1, 2) for s, w in zip(data.shards, data.windows, strict=True)])
    assert np.allclose(data.table.tasks[0].mean, values.mean(axis=0), atol=1e-5)
    assert np.allclose(data.table.tasks[0].scale, values.std(axis=0), rtol=1e-4)
    counts = data.shards[0].counts[data.windows[0][0]]
    assert np.allclose(data.table.recordings[0].mean_counts, counts.mean(axis=(0, 1)), atol=0.01)


def test_few_shots_and_few_units(tmp_path):
    data = SpikeData(write_populations(tmp_path), limit_train=3, max_units=6, gap_s=1.0)
    windows = data.side("train")
    assert len(windows) == 6 and windows[0]["counts"].shape == (20, 6)
    chosen = {tuple(windows[0]["slot"].tolist()) for _ in range(20)}
    assert len(chosen) > 1 and all(list(c) == sorted(set(c)) for c in chosen)
    assert data.side("val")[0]["counts"].shape == (20, 9)  # validation takes all


def test_whole_recordings_are_held_out(tmp_path):
    paths = write_populations(tmp_path, units=(3,) * 8, seconds=4.0)
    kept, held = hold_out_recordings(paths, 0.25)
    assert len(kept) == 6 and len(held) == 2 and not set(kept) & set(held)
    assert hold_out_recordings(paths[::-1], 0.25) == (kept, held)


def test_kinds_and_tasks_live_in_one_batch(tmp_path):
    paths = write_populations(
        tmp_path, units=(4, 4, 4), species=("mouse", "human", "mouse"), modality=("neuropixels", "array", "2-photon")
    )
    made = simulate_population(replace(PopulationSettings.smoke(), units=4, duration_s=24.0), "speed", seed=1)
    speed = np.linalg.norm(made.behaviour, axis=1, keepdims=True)
    paths += write_windows(tmp_path, [replace(made, behaviour=speed, task="speed")], 20)
    paths += write_windows(tmp_path, [replace(made, name="still", behaviour=speed[:, :0], task="")], 20)
    data = SpikeData(paths, gap_s=1.0)
    assert [task.name for task in data.table.tasks] == ["velocity", "speed"] and len(data.table.kinds) == 3
    batch = collate([data.side("train")[i * len(data.windows[0][0])] for i in range(5)])
    assert batch["task"].tolist() == [1, 1, 1, 2, 0] and batch["kind"].tolist() == [1, 2, 3, 1, 1]
    known = torch.isfinite(batch["behaviour"])[:, 0].tolist()
    assert known == [[True, True]] * 3 + [[True, False], [False, False]]


def test_recordings_that_do_not_fit_are_refused(tmp_path):
    paths = write_populations(tmp_path, units=(4,))
    other = replace(PopulationSettings.smoke(), units=4, duration_s=24.0)
    longer = write_windows(tmp_path / "b", [simulate_population(other, "longer")], 25)
    with pytest.raises(ValueError, match="windows of 20 bins of 0.02 s, longer has windows of 25"):
        SpikeData(paths + longer)
    same = write_windows(tmp_path / "c", [simulate_population(other, "rec0")], 20)
    with pytest.raises(ValueError, match="used more than once: rec0"):
        SpikeData(paths + same)
    with pytest.raises(ValueError, match="No file"):
        SpikeData([])
    with pytest.raises(ValueError, match="no val side"):
        SpikeData(paths, fractions=(0.7, 0.0, 0.3), gap_s=1.0).side("val")
    fewer = write_windows(tmp_path / "d", [simulate_population(replace(other, units=3), "rec0")], 20)
    known = SpikeData(paths, gap_s=1.0).table
    with pytest.raises(ValueError, match="Recording rec0 has 3 units.*another name"):
        SpikeData(fewer, table=known, gap_s=1.0).side("train")
