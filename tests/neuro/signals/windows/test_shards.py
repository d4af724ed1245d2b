"""Window shards: what is read is what was written, from any process, and nothing wrong is mixed in."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from nbkit.neuro.signals import eeg
from nbkit.neuro.signals.windows.shards import WindowShards, write_shard, write_signal

NAMES = ("E1", "E2", "Cz")


def windows_of(number: int, count: int = 5, channels: int = 3, times: int = 20) -> np.ndarray:
    return np.random.default_rng(number).normal(scale=20, size=(count, channels, times)).astype(np.float32)


@pytest.fixture
def shard(tmp_path):
    """Write the shard of one subject, and give the npy's path."""

    def write(number, windows=None, ch_names=NAMES, sfreq=100.0, data="made up", **columns):
        windows = windows_of(number) if windows is None else windows
        columns = {"target": np.arange(len(windows)) + 100.0 * number, **columns}
        folder = tmp_path / f"sub-{number}"
        written = write_shard(
            folder, windows, sfreq=sfreq, ch_names=ch_names, subject=f"S{number}", columns=columns, data=data
        )
        return written["windows"]

    return write


def test_windows_come_back_as_they_were_written(shard):
    paths = [shard(2), shard(1), shard(3)]
    data = WindowShards(paths)
    truth = np.concatenate([windows_of(1), windows_of(2), windows_of(3)])  # by name, whatever the order given
    assert len(data) == 15 and (data.n_chans, data.n_times, data.sfreq, data.ch_names) == (3, 20, 100.0, NAMES)
    np.testing.assert_array_equal(np.stack([data[i]["window"].numpy() for i in range(15)]), truth)
    np.testing.assert_array_equal(data.stack(), truth)
    assert [data[i]["target"] for i in (0, 5, 14)] == [100.0, 200.0, 304.0]
    assert data.subjects.tolist() == ["S1"] * 5 + ["S2"] * 5 + ["S3"] * 5 and data.fact("data") == "made up"
    assert data[0]["window"].dtype == torch.float32


def test_indices_may_be_given_too_and_folders(shard, tmp_path):
    path = shard(1)
    assert len(WindowShards([path, path.with_suffix(".json")])) == len(WindowShards(tmp_path)) == 5


def test_a_subset_is_a_view_of_the_same_files(shard):
    data = WindowShards([shard(1), shard(2)])
    part = data.subset(data.column("target") >= 103)
    assert part.column("target").tolist() == [103.0, 104.0, 200.0, 201.0, 202.0, 203.0, 204.0]
    assert set(part.subset([0, -1]).subjects) == {"S1", "S2"} and part.subset([0, -1])[1]["target"] == 204.0
    np.testing.assert_array_equal(part[2]["window"], windows_of(2)[0])
    with pytest.raises(ValueError, match="one bool per window"):
        data.subset(np.ones(3, bool))


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_read_the_same_in_any_process(shard, workers):
    data = WindowShards([shard(1), shard(2)])
    data[0]  # maps in this process; a worker maps anew
    batches = list(DataLoader(data, batch_size=4, num_workers=workers))
    np.testing.assert_array_equal(
        torch.cat([b["window"] for b in batches]), np.concatenate([windows_of(1), windows_of(2)])
    )
    assert batches[0]["target"].dtype == torch.float64


def test_pickling_carries_no_window(shard):
    data = WindowShards([shard(1, windows_of(1, count=500))])
    data[0]
    assert len(pickle.dumps(data)) < 40_000 < 500 * 3 * 20 * 4
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again[7]["window"], data[7]["window"])


def test_a_write_into_a_window_never_reaches_the_file(shard):
    path = shard(1)
    before = path.read_bytes()
    WindowShards([path])[0]["window"].fill_(1e6)
    assert path.read_bytes() == before


def test_many_shards_hold_no_file_open(shard):
    import psutil

    data = WindowShards([shard(number) for number in range(40)])
    before = psutil.Process().num_fds()
    [data[i] for i in range(len(data))]
    assert psutil.Process().num_fds() - before < 5


def test_missing_targets_are_nan_and_text_is_text(shard):
    data = WindowShards([shard(1, target=np.array([1, np.nan, 2, 3, 4.0]), event=np.array(list("abcde")))])
    assert np.isnan(data.column("target")[1]) and data.column("event").tolist() == list("abcde")
    assert set(data.column_names) == {"target", "event"}
    with pytest.raises(ValueError, match="is text"):
        WindowShards(data.paths, columns=("event",))
    with pytest.raises(ValueError, match="No column 'rt'.*target"):
        WindowShards(data.paths, columns=("rt",))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ch_names": ("E1", "E2", "E3")}, "channels"),
        ({"sfreq": 200.0}, "sfreq"),
        ({"windows": windows_of(2, times=21)}, "samples per window"),
    ],
)
def test_mixed_shards_are_refused_with_the_file_named(shard, change, match):
    paths = [shard(1), shard(2, **change)]
    with pytest.raises(ValueError, match=f"sub-2.*{match}.*Cut them again with the same settings"):
        WindowShards(paths)


def test_a_stand_in_beside_a_real_recording_asks_for_another_store(shard):
    with pytest.raises(ValueError, match="One recording is a stand-in, the other is real: take another store"):
        WindowShards([shard(1), shard(2, ch_names=("E1", "E2", "E3"), data="real")])


def test_nan_is_refused_before_anything_is_written(shard, tmp_path):
    bad = windows_of(1)
    bad[3, 1, 4] = np.nan
    with pytest.raises(ValueError, match="S1.*window 3, channel E2"):
        shard(1, bad)
    assert not list(tmp_path.rglob("*.npy"))


def test_damage_is_found_when_opening(shard):
    path = shard(1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match="cut short"):
        WindowShards([path])
    path.write_bytes(whole)
    index = path.with_suffix(".json")
    said = json.loads(index.read_text())
    index.write_text(json.dumps({**said, "shape": [4, 3, 20]}))
    with pytest.raises(ValueError, match="another run"):
        WindowShards([path])
    index.unlink()
    assert path.is_file()
    with pytest.raises(FileNotFoundError, match="without its index"):
        WindowShards([path])
    with pytest.raises(FileNotFoundError, match="10_eeg_windows"):
        WindowShards([])


def test_items_of_the_window_phase_are_read(eegbci_folder, tmp_path):
    row = eeg.recordings("eegbci", runs=[3])[0]
    settings = eeg.window_settings("eegbci", 100.0, 2.0, 2.0)
    eeg.make_windows(row, tmp_path, **settings)
    whole = eeg.load_recording(row, settings["cleaning"]).signal
    for purpose in (None, "pretrain", "challenge2"):  # an index named windows serves any
        data = WindowShards(tmp_path, columns=("start_s",), purpose=purpose)
        assert (len(data), data.n_chans, data.n_times, data.sfreq) == (62, 64, 200, 100.0)
    np.testing.assert_allclose(data[61]["window"], whole[:, 12200:12400], rtol=1 / 2048, atol=1e-4)
    assert data[3]["start_s"] == 6.0 and data.subjects[0] == "1" and data.fact("data") == "real"
    assert set(data.column("label")) == {"T0", "T1", "T2"} and data.ch_names[0] == "Fp1"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_earlier_stores_are_read(tmp_path, save):
    signal = np.random.default_rng(1).normal(size=(5, 3, 20)).astype(np.float32)
    path = tmp_path / "a.npz"
    more = {"subject": "1", "label": np.array(list("abcde")), "start_s": np.arange(5.0), "data": "real"}
    save(path, signal=signal, sfreq=100.0, ch_names=np.array(["Cz", "Pz", "Oz"]), **more)
    data = WindowShards([path], columns=("start_s",))
    np.testing.assert_array_equal(data[4]["window"], signal[4])
    assert data[3]["start_s"] == 3.0 and data.column("label").tolist() == list("abcde") and data.subjects[0] == "1"


def test_the_baseline_of_a_window_is_subtracted_when_it_is_read(tmp_path):
    signal = np.random.default_rng(2).normal(size=(2, 60)) + 100
    cuts = {"windows": (np.array([0, 25]), 20, {"start_s": np.array([0.0, 0.25])})}
    facts = dict(sfreq=100.0, ch_names=["Cz", "Pz"], subject="1", baseline=(0, 5))
    write_signal(tmp_path, signal, cuts=cuts, **facts)
    window = WindowShards(tmp_path, columns=())[1]["window"].numpy()
    truth = signal[:, 25:45] - signal[:, 25:30].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(window, truth, atol=1e-4)


def test_one_signal_gives_windows_for_several_purposes(tmp_path):
    signal = np.random.default_rng(0).normal(size=(3, 100)).astype(np.float32)
    for subject in "ab":
        cuts = {
            "pretrain": (np.arange(0, 81, 10), 20, {"start_s": np.arange(9) / 10}),
            "challenge1": (np.array([7, 70]), 30, {"target": np.array([1.5, 2.0])}),
        }
        written = write_signal(tmp_path / subject, signal, sfreq=100.0, ch_names=NAMES, subject=subject, cuts=cuts)
        assert [path.name for path in written.values()] == ["signal.npy", "pretrain.json", "challenge1.json"]
    overlapping = WindowShards(tmp_path, columns=(), purpose="pretrain")
    assert (len(overlapping), overlapping.n_times, overlapping.fact("purpose")) == (18, 20, "pretrain")
    np.testing.assert_array_equal(overlapping.stack()[9:], np.stack([signal[:, s : s + 20] for s in range(0, 81, 10)]))
    locked = WindowShards(tmp_path, purpose="challenge1")
    np.testing.assert_array_equal(locked[3]["window"], signal[:, 70:100])
    batch = next(iter(DataLoader(locked, batch_size=4)))
    assert batch["window"].is_contiguous() and batch["target"].tolist() == [1.5, 2.0, 1.5, 2.0]
    with pytest.raises(ValueError, match="challenge1, pretrain; set purpose="):
        WindowShards(tmp_path)
    with pytest.raises(FileNotFoundError, match="No windows for challenge2.*found: challenge1, pretrain"):
        WindowShards(tmp_path, purpose="challenge2")
    np.save(tmp_path / "a" / "signal.npy", signal.T[:90])
    with pytest.raises(ValueError, match="another run"):
        WindowShards(tmp_path, purpose="challenge1")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_of_half_the_room_is_read_as_float32_to_one_part_in_2048(tmp_path, workers):
    signal = np.random.default_rng(0).normal(scale=60, size=(3, 1000))
    cuts = {"pretrain": (np.arange(0, 981, 20), 20, {"target": np.zeros(50)})}
    sizes = {}
    for dtype in ("float32", "float16"):
        folder = tmp_path / dtype
        common = {"sfreq": 100.0, "ch_names": NAMES, "subject": "a", "cuts": cuts, "dtype": dtype}
        sizes[dtype] = write_signal(folder, signal, **common)["signal"].stat().st_size - 128  # the header
    assert sizes["float16"] * 2 == sizes["float32"] == 3 * 1000 * 4
    whole, half = (WindowShards(tmp_path / dtype) for dtype in sizes)
    np.testing.assert_array_equal(half.stack(), whole.stack().astype(np.float16).astype(np.float32))
    assert np.abs(half.stack() - whole.stack()).max() > 0, "the probe sees what rounding takes"
    np.testing.assert_allclose(half.stack(), whole.stack(), rtol=1 / 2048, atol=1e-4)
    for batch in DataLoader(half, batch_size=50, num_workers=workers):
        assert batch["window"].dtype == torch.float32
        np.testing.assert_array_equal(batch["window"], half.stack())
    mixed = WindowShards(tmp_path)
    assert len(mixed) == 100 and {mixed[i]["window"].dtype for i in (0, 99)} == {torch.float32}


def test_a_signal_beyond_what_float16_holds_stays_whole(tmp_path):
    signal = np.zeros((3, 40))
    signal[1, 3] = 7e4  # uV: an amplifier at its rail
    cuts = {"pretrain": (np.array([0]), 20, {})}
    common = {"sfreq": 100.0, "ch_names": NAMES, "subject": "a", "cuts": cuts}
    write_signal(tmp_path, signal, dtype="float16", **common)
    assert float(WindowShards(tmp_path, columns=())[0]["window"][1, 3]) == 7e4
    with pytest.raises(ValueError, match="Unknown dtype='int8'; a signal is kept as float32 or float16"):
        write_signal(tmp_path / "b", signal, dtype="int8", **common)
    np.save(tmp_path / "signal.npy", signal.T.copy())
    with pytest.raises(ValueError, match="holds float64"):
        WindowShards(tmp_path, columns=())


def test_a_signal_with_nan_or_windows_outside_it_is_refused(tmp_path):
    signal = np.zeros((3, 50))
    common = {"sfreq": 100.0, "ch_names": NAMES, "subject": "a"}
    with pytest.raises(ValueError, match="leave 50 samples"):
        write_signal(tmp_path, signal, cuts={"pretrain": (np.array([31]), 20, {})}, **common)
    signal[1, 7] = np.nan
    with pytest.raises(ValueError, match="sub-X_task-Y.*first: E2"):
        write_signal(tmp_path, signal, cuts={"pretrain": (np.array([0]), 20, {})}, recording="sub-X_task-Y", **common)
    assert not list(tmp_path.iterdir())
