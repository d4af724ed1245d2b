"""Recordings as rows: tables, names, broken files among many, and the forms of shared data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.spikes.recordings import SpikeWindowSettings, make_windows, spike_rows, summarize
from nbkit.neuro.signals.spikes.windows import SpikeShard
from tests.neuro.signals.spikes.test_nwb import poisson, write

SECOND = SpikeWindowSettings(bin_s=0.1, window_s=2.0)


def shard_of(row, settings, folder) -> SpikeShard:
    np.savez(folder / f"{row['key']}.npz", **make_windows(row, settings))
    return SpikeShard(folder / f"{row['key']}.npz")


def test_files_of_one_name_have_their_own_keys_and_a_broken_one_stops_no_other(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        write(tmp_path / "in" / folder / "rec.nwb", poisson(seconds=20.0, seed=ord(folder)))
    (tmp_path / "in" / "cut.nwb").write_bytes(b"\x89HDF")
    (tmp_path / "in" / "._rec.nwb").write_bytes(b"x")
    said: list[str] = []
    rows = spike_rows("folder", str(tmp_path / "in"), say=said.append)
    assert [row["key"] for row in rows] == ["a_rec", "b_rec", "cut"] and said == ["left out 1 hidden files in in"]
    shards = [shard_of(row, SECOND, tmp_path) for row in rows[:2]]
    assert shards[0].name == "a_rec" != shards[1].name and not np.array_equal(shards[0].counts, shards[1].counts)
    with pytest.raises(RecordingError, match=r"cut\.nwb \(4 bytes\) cannot be opened as HDF5"):
        make_windows(rows[2], SECOND)


def test_each_recording_has_its_own_behaviour_interval_and_species_by_the_table(shared_data, tmp_path):
    mouse, rats = shared_data / "spikes_hd_mouse", shared_data / "spikes_hippocampus_rat"
    if not (mouse.is_dir() and rats.is_dir()):
        pytest.skip("the recordings (../shared/data) are not here")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mouse.nwb").symlink_to(mouse / "A2929-200711.nwb")
    (tmp_path / "in" / "rat.nwb").symlink_to(rats / "linear-track.nwb")
    (tmp_path / "in" / "other.nwb").symlink_to(rats / "linear-track.nwb")
    table = tmp_path / "in" / "recordings.tsv"
    table.write_text("file\tbehaviour\twithin\tspecies\tstart_s\tstop_s\nmouse.nwb\try\tepochs:wake\tmouse\t\t\n"
                     "rat.nwb\tposition\t\t\t100\t200\n")  # fmt: skip
    said: list[str] = []
    rows = spike_rows("folder", str(tmp_path / "in"), say=said.append)
    assert said == ["left out 1 files that recordings.tsv does not name"]
    one, two = (shard_of(row, SECOND, tmp_path) for row in rows)
    assert (one.task, one.circular, one.species, one.n_units) == ("ry", True, "mouse", 15)
    assert (two.task, two.behaviour_unit, two.species, two.n_units) == ("position", "pixel", "Rattus norvegicus", 31)
    assert two.starts[0] >= 100 and two.starts[-1] <= 198
    lines = summarize([one.path, two.path])
    assert "cut to 529" in lines[0] and "31 units (spikes), " in lines[1]
    table.write_text("file\tbehaviour\nlost.nwb\tx\n")
    with pytest.raises(RecordingError, match=r"names lost\.nwb \(1 files\), which are not there"):
        spike_rows("folder", str(tmp_path / "in"))


def test_trials_of_calcium_are_windows_and_their_orientation_is_a_class(shared_data, tmp_path):
    folder = shared_data / "calcium_v1_gratings"
    if not folder.is_dir():
        pytest.skip("the mice (../shared/data/calcium_v1_gratings) are not here")
    rows = spike_rows("folder", str(folder))
    assert len(rows) == 7
    settings = SpikeWindowSettings(bin_s=0.0625, window_s=3.0, behaviour="direction_deg % 180")
    shard = shard_of(rows[0], settings, tmp_path)
    with np.load(rows[0]["path"]) as file:
        assert np.allclose(shard.counts, file["dff"].transpose(0, 2, 1)[:, :48])
        classes = [shard.classes[n] for n in np.nan_to_num(shard.behaviour).sum(axis=1).argmax(axis=1)]
        assert classes == [str(int(d) % 180 * 1.0)[:-2] for d in file["direction_deg"]]
    assert (
        shard.modality == "two-photon"
        and shard.activity == "trace"
        and shard.classes == ("0", "45", "90", "135")
        and 0 < shard.snr < 1
    )
    known = np.isfinite(shard.behaviour).all(axis=2)
    assert (known.sum(axis=1) == 32).all(), "labels hold from the stimulus on"
    assert (shard.next_window == -1).all(), "one trial does not follow the other"
    with pytest.raises(RecordingError, match=r"has no 'angle' with one value a trial; it has direction_deg"):
        make_windows(rows[0] | {"behaviour": "angle"}, settings)
    with pytest.raises(RecordingError, match=r"sampled every 0\.0625 s, the bins have 0\.1 s"):
        make_windows(rows[0], SECOND)


def test_tetrodes_of_a_mat_file_agree_with_the_nwb_file_made_from_them(shared_data, tmp_path):
    folder = shared_data / "spikes_hippocampus_rat"
    if not folder.is_dir():
        pytest.skip("the rats (../shared/data/spikes_hippocampus_rat) are not here")
    mat, nwb = (dict(key=key, source="folder", path=str(folder / path), behaviour="position")
                for key, path in (("mat", "linear-track/spikes.mat"), ("nwb", "linear-track.nwb")))  # fmt: skip
    one, two = shard_of(mat, SECOND, tmp_path), shard_of(nwb, SECOND, tmp_path)
    assert one.modality == two.modality == "ecephys" and one.n_units == two.n_units == 31 and one.behaviour_unit == "px"
    assert one.counts.sum() == pytest.approx(two.counts.sum(), rel=0.01)
    assert np.allclose(np.sort(one.mean_counts), np.sort(two.mean_counts), atol=0.01)


def test_behaviour_that_stands_still_is_named_and_left_out_on_request(shared_data, tmp_path):
    path = shared_data / "spikes_hippocampus_rat" / "linear-track.nwb"
    if not path.is_file():
        pytest.skip("the rats (../shared/data/spikes_hippocampus_rat) are not here")
    (row,) = spike_rows("folder", str(path))
    still = replace(SECOND, behaviour="position", bin_s=0.25)
    (note,) = json.loads(str(make_windows(row, still)["notes"]))
    assert note.startswith("position stands still in") and "LEAST_SPEED leaves such time out" in note
    arrays = make_windows(row | {"least_speed": "15"}, still)
    assert "left out 80.5% of position" in str(arrays["notes"])
    known = np.isfinite(arrays["behaviour"]).all(axis=2)
    assert 0.18 < known.mean() < 0.21 and arrays["observed"].all(), "its spikes are observed all the same"
    for least, words in (("-1", "least_speed = '-1'; it is a number"), ("1e9", "never changes by 1e[+]09/s")):
        with pytest.raises(RecordingError, match=words):
            make_windows(row | {"least_speed": least}, still)
    with pytest.raises(RecordingError, match="a behaviour with a speed is not there"):
        make_windows(row | {"least_speed": "15"}, SECOND)


def test_a_behaviour_of_another_clock_is_refused_and_silence_is_named(tmp_path):
    seconds = np.arange(0, 60, 0.05)
    noise = poisson(seconds=60.0)
    for name, times, trains in (
        ("late", seconds + 1000, noise), ("ms", seconds * 1e3, noise), ("silent", seconds, [[], []])
    ):  # fmt: skip
        write(tmp_path / f"{name}.nwb", trains, position=times)
    late, ms, silent = spike_rows("folder", str(tmp_path))
    settings = replace(SECOND, behaviour="pos")
    with pytest.raises(RecordingError, match=r"pos runs from 1000 to 1059\.95 s, the spikes from .* no common time"):
        make_windows(late, settings)
    with pytest.raises(RecordingError, match=r"The timestamps of pos seem to be in ms; NWB demands s"):
        make_windows(ms, settings)
    assert "no unit fired in this time" in str(make_windows(silent, settings)["notes"])


def test_a_speed_is_asked_of_the_table_or_of_all_and_old_stores_keep_their_settings(tmp_path):
    write(tmp_path / "one.nwb", poisson(seconds=20.0))
    (tmp_path / "recordings.tsv").write_text("file\tbehaviour\tleast_speed\none.nwb\tx\t\n")
    (row,) = spike_rows("folder", str(tmp_path))
    assert "least_speed" not in row and "least_speed" not in SECOND.stored()
    assert replace(SECOND, least_speed=2.0).stored() == SECOND.stored() | {"least_speed": 2.0}


def test_a_probes_list_of_spikes_is_read_and_silent_units_can_be_left_out(shared_data, tmp_path):
    path = shared_data / "spikes_ibl" / "ephys_test.npz"
    if not path.is_file():
        pytest.skip("the probe's spikes (../shared/data/spikes_ibl) are not here")
    (row,) = spike_rows("folder", str(path))
    arrays = make_windows(row, SpikeWindowSettings(bin_s=0.1, window_s=2.0, least_hz=1.0))
    notes = json.loads(str(arrays["notes"]))
    assert "states no recorded interval" in notes[0] and "of 289 units below 1 Hz" in notes[1]
    assert arrays["mean_counts"].min() >= 0.1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"PK\x03\x04cut"), "cannot be read as npz"),
        (lambda path: np.savez(path, x=np.zeros(3)), r"holds x \(3,\); it needs spike_times"),
    ],
    ids=["cut short", "another form"],
)
def test_an_npz_of_no_known_form_is_refused_by_what_it_holds(tmp_path, make, words):
    make(tmp_path / "odd.npz")
    (row,) = spike_rows("folder", str(tmp_path))
    with pytest.raises(RecordingError, match=words):
        make_windows(row, SECOND)


def test_simulated_rows_say_so():
    rows = spike_rows("synthetic", count=2)
    arrays = make_windows(rows[1], SpikeWindowSettings.smoke())
    assert "stand-in" in str(arrays["data"]) and str(arrays["name"]) == rows[1]["key"]
    with pytest.raises(ValueError, match="give one of folder, dandi, synthetic"):
        spike_rows("nwb")
