"""Data sets on disk: both layouts, splits without leakage, and what is said of broken files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from nbkit.neuro.bandvar.data import BandData, EEGFrequencyDataset
from nbkit.neuro.signals.recordings.synthetic import dummy_sample, write_dummy_dataset


@pytest.fixture
def root(tmp_path):
    return write_dummy_dataset(tmp_path / "set", 6, 3, channels=4, steps=24)


def test_the_seeds_layout(root):
    data = EEGFrequencyDataset(root, "train")
    assert len(data) == 6 and data.input_shape == (4, 24) and data.num_stages == 5 and data.sfreq == 100.0
    with np.load(root / "train" / "sample_002.npz") as file:
        np.testing.assert_array_equal(data[2].numpy(), file["cumulative_bands"])
    assert data.bands[-1] == (30.0, 49.0) and not data.fallback


def test_val_falls_back_to_the_whole_root(root):
    for path in (root / "val").iterdir():
        path.unlink()
    data = EEGFrequencyDataset(root, "val")
    assert data.fallback and len(data) == 6


def test_limit_keeps_the_first(root):
    assert len(EEGFrequencyDataset(root, "train", limit=2)) == 2
    assert len(EEGFrequencyDataset(root, "train", limit=99)) == 6


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_recordings_windows_are_read_one_by_one(tmp_path, save):
    levels = np.random.default_rng(0).normal(size=(7, 3, 4, 32)).astype(np.float32)
    save(tmp_path / "a.npz", signal=levels[:, -1], cumulative_bands=levels, bands=np.ones((3, 2)), sfreq=100.0)
    data = EEGFrequencyDataset([tmp_path / "a.npz"])
    assert len(data) == 7
    for window in (6, 0, 3):
        np.testing.assert_array_equal(data[window].numpy(), levels[window])
    other = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(other[5].numpy(), levels[5])


def test_windows_can_be_changed_without_changing_the_file(write_recording):
    path = write_recording()
    before = path.read_bytes()
    EEGFrequencyDataset([path])[0].mul_(0)
    assert path.read_bytes() == before


def test_runs_of_one_subject_are_on_one_side(write_recording):
    paths = [write_recording(run=run, seed=int(run)) for run in ("3", "4", "6", "8", "11")]
    data = BandData(paths, val_fraction=0.4)
    sides = [{p.name for p in side.paths} for side in (data.train_dataset, data.val_dataset)]
    assert not sides[0] & sides[1] and [len(side) for side in sides] == [3, 2]
    windows = [{w.numpy().tobytes() for w in side} for side in (data.train_dataset, data.val_dataset)]
    assert not windows[0] & windows[1]


def test_subjects_are_on_one_side(write_recording):
    paths = [write_recording(subject, run) for subject in ("1", "2", "3") for run in ("3", "4")]
    data = BandData(paths)
    sides = [{p.name.split("_")[0] for p in side.paths} for side in (data.train_dataset, data.val_dataset)]
    assert not sides[0] & sides[1]


def test_the_split_and_the_order_do_not_depend_on_how_files_are_listed(write_recording):
    paths = [write_recording(run=run) for run in ("3", "4", "6", "8")]
    one, other = BandData(paths), BandData(paths[::-1])
    assert one.train_dataset.paths == other.train_dataset.paths and one.scale == other.scale


def test_scale_is_the_rms_of_the_training_increments(write_recording):
    paths = [write_recording(run=run, seed=int(run)) for run in ("3", "4", "6")]
    data = BandData(paths)
    levels = np.concatenate([np.load(p)["cumulative_bands"] for p in data.train_dataset.paths]).astype(float)
    by_hand = [np.sqrt(np.mean((levels[:, k] - (levels[:, k - 1] if k else 0)) ** 2)) for k in range(3)]
    np.testing.assert_allclose(data.scale, by_hand, rtol=1e-6)


def test_loaders_give_batches_of_bands(root):
    data = BandData(root, batch_size=4)
    batches = list(data.train_dataloader())
    assert [tuple(b.shape) for b in batches] == [(4, 5, 4, 24), (2, 5, 4, 24)] and batches[0].dtype == torch.float32
    assert sum(len(b) for b in data.val_dataloader()) == 3


def test_names_come_from_the_files(write_recording, root):
    paths = [write_recording(run=r, ch_names=np.array(list("ABCD")), data=np.array("real")) for r in ("3", "4")]
    assert BandData(paths).ch_names() == ["A", "B", "C", "D"] and BandData(paths).describe("data") == "real"
    assert BandData(root).ch_names()[1] == "ch 1" and BandData(root).describe("data", "unknown") == "unknown"


def test_a_folder_without_samples_is_answered_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist.*make_dummy"):
        EEGFrequencyDataset(tmp_path / "gone", "train")
    with pytest.raises(FileNotFoundError, match="has no npz file"):
        EEGFrequencyDataset(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"x.npz does not exist \(1 of 1"):
        EEGFrequencyDataset([tmp_path / "x.npz"])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"sfreq": None}, "lacks sfreq; a sample needs signal, cumulative_bands, bands, sfreq"),
        ({"cumulative_bands": None, "bands": None}, "lacks cumulative_bands, bands"),
        ({"cumulative_bands": np.zeros((4, 24))}, r"must be \(bands, channels, time\)"),
        ({"signal": np.zeros((4, 25))}, r"signal has shape \(4, 25\)"),
        ({"bands": np.zeros((2, 2))}, "5 bands; give one"),
        ({"sfreq": np.float32(200)}, "sfreq in Hz 200.0, sample_000.npz has 100.0"),
        ({"cumulative_bands": np.zeros((5, 4, 30)), "signal": np.zeros((4, 30))}, "all files of a data set must agree"),
    ],
)
def test_a_sample_that_does_not_fit_is_answered_in_words(root, change, words):
    arrays = {**dummy_sample(0, 4, 24), **change}
    np.savez(root / "train" / "sample_999.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(ValueError, match=words):
        EEGFrequencyDataset(root, "train")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named_and_left(root, share):
    path = root / "train" / "sample_000.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=f"sample_000.npz cannot be read as npz.*{int(share * len(whole))} bytes"):
        EEGFrequencyDataset(root, "train")
    assert path.exists()


def test_an_empty_band_is_answered_in_words(write_recording):
    levels = np.random.default_rng(0).normal(size=(4, 3, 4, 32))
    levels[:, 2] = levels[:, 1]
    with pytest.raises(ValueError, match="a band is empty or not finite"):
        _ = BandData([write_recording(run=r, levels=levels) for r in ("3", "4")]).scale
