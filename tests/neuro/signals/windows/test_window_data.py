"""Splits by subject without leak, crops, and what is left out."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from nbkit.neuro.signals.assignment import assign
from nbkit.neuro.signals.windows.shards import WindowShards, write_shard
from nbkit.neuro.signals.windows.window_data import (
    CroppedWindows,
    WindowData,
    challenge_crops,
    check_no_leak,
)


@pytest.fixture
def shards(tmp_path):
    """Two recordings of each of twenty subjects; a window holds its own sample numbers."""
    paths = []
    for subject in range(20):
        for run in (1, 2):
            windows = np.broadcast_to(np.arange(40, dtype=np.float32), (6, 2, 40))
            target = np.full(6, float(subject))
            if subject == 7:
                target[:] = np.nan
            written = write_shard(
                tmp_path / f"sub-{subject:02d}_run-{run}", windows, sfreq=10.0, ch_names=("E1", "Cz"),
                subject=f"S{subject:02d}", columns={"target": target, "run": np.full(6, run)},
            )  # fmt: skip
            paths.append(written["windows"])
    return paths


def test_sides_share_no_subject_and_together_are_all(shards):
    data = WindowData(shards, 8)
    sides = [data.train_dataset, data.val_dataset, data.test_dataset]
    names = [set(side.subjects) for side in sides]
    assert [len(n) for n in names] == [15, 2, 2] and len(set.union(*names)) == 19  # S07 has no target
    assert data.missing == 12 and sum(map(len, sides)) == 228
    for side in sides:  # both recordings of a subject are together
        assert all((side.subjects == name).sum() == 12 for name in set(side.subjects))


def test_what_may_miss_comes_as_nan_and_leaves_no_window_out(shards):
    data = WindowData(shards, 8, columns=("run",), may_miss=("target",))
    sides = [data.train_dataset, data.val_dataset, data.test_dataset]
    assert data.missing == 0 and sum(map(len, sides)) == 240
    gone = next(side for side in sides if "S07" in side.subjects)
    assert np.isnan(gone.subset(gone.subjects == "S07")[0]["target"])
    mean, deviation = data.target_scale("target")
    assert np.isfinite([mean, deviation]).all() and deviation > 0
    with pytest.raises(ValueError, match="No training window has target"):
        WindowData([path for path in shards if "sub-07" in str(path)], 8, columns=(), may_miss=("target",),
                   split="recording", fractions=(0.5, 0.5)).target_scale()  # fmt: skip


def test_the_split_hangs_on_names_and_seed_alone(shards):
    first = set(WindowData(shards, 8).val_dataset.subjects)
    assert set(WindowData(shards[::-1], 8).val_dataset.subjects) == first
    assert any(set(WindowData(shards, 8, seed=seed).val_dataset.subjects) != first for seed in range(3))


def test_the_leak_check_raises_and_names_the_subject(shards):
    every = WindowShards(shards)
    with pytest.raises(ValueError, match="Leak: subject S03 is in train and in val"):
        check_no_leak(every.subset(np.arange(60)), every.subset(every.subjects == "S03"))
    by_recording = WindowData(shards, 8, split="recording")
    by_recording.setup()  # a subject's two recordings may part here, and the check by subject sees it
    with pytest.raises(ValueError, match="Leak"):
        check_no_leak(by_recording.train_dataset, by_recording.val_dataset, by_recording.test_dataset)


def test_one_subject_can_be_split_by_recording_only(shards):
    with pytest.raises(ValueError, match="split='recording'"):
        WindowData(shards[:2], 8).setup()
    data = WindowData(shards[:2], 8, split="auto", fractions=(0.5, 0.5, 0))
    assert len(data.train_dataset) == len(data.val_dataset) == 6 and data.split == "recording"
    with pytest.raises(ValueError, match="no test side"):
        _ = data.test_dataset


def test_wrong_wishes_are_refused(shards):
    with pytest.raises(ValueError, match="no shares"):
        assign(["a", "b", "c"], (0.5, 0.1, 0.1))
    with pytest.raises(ValueError, match="may be subject"):
        WindowData(shards, split="window")
    with pytest.raises(ValueError, match="None of 12 windows has target"):
        WindowData(shards[14:16]).setup()
    with pytest.raises(ValueError, match="crop=41"):
        next(iter(WindowData(shards, crop=41).train_dataloader()))


def test_training_crops_follow_torchs_generator_and_others_stay(shards):
    data = WindowData(shards, 32, crop=20)
    assert data.n_times == 20
    epochs = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        epochs.append(torch.cat([batch["window"][:, 0, 0] for batch in data.train_dataloader()]))
    assert torch.equal(epochs[0], epochs[2]) and not torch.equal(epochs[0], epochs[1])
    assert {int(v) for v in epochs[0]} == set(range(21))  # every place that fits, the last one too
    fixed = [torch.cat([batch["window"][:, 0] for batch in data.val_dataloader()]) for _ in range(2)]
    assert torch.equal(*fixed) and fixed[0].shape[1] == 20
    assert torch.equal(fixed[0][:, -1] - fixed[0][:, 0], torch.full((24,), 19.0))


def test_fixed_crops_are_the_start_kits():
    shard_of = np.array([3, 3, 5, 3, 5])
    starts = challenge_crops(shard_of, 200)
    draws = random.Random(42)
    expected = [draws.randint(0, 200) for _ in range(3)]
    assert starts.tolist() == [expected[0], expected[1], expected[0], expected[2], expected[1]]


def test_a_crop_of_the_whole_window_is_the_window(shards):
    every = WindowShards(shards[:1])
    assert torch.equal(CroppedWindows(every, 40, random_starts=True)[0]["window"], every[0]["window"])


def test_a_target_has_its_scale(shards):
    data = WindowData(shards, 8)
    values = data.train_dataset.column("target")
    assert data.target_scale() == (pytest.approx(values.mean()), pytest.approx(values.std()))
    assert data.describe() == "real"
