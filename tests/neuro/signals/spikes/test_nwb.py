"""NWB files: what is not observed is not silence, and every odd file is read rightly or refused by name."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.spikes.binned import bin_recording
from nbkit.neuro.signals.spikes.nwb import load_nwb
from nbkit.neuro.signals.spikes.reliability import recording_snr


@pytest.fixture
def case(shared_data):
    folder = shared_data.parent / "cases" / "30-nwb"
    if not folder.is_dir():
        pytest.skip("the cases (../shared/cases/30-nwb) are not here")
    return lambda name: folder / f"{name}.nwb"


def load(path, **options):
    notes: list[str] = []
    return load_nwb(path, notes=notes, **options), "\n".join(notes)


def write(path, trains, *, obs=None, invalid=(), trials=(), epochs=(), scale=1.0, position=()):
    """Write a file with spike trains, observed intervals of each unit, and tables of intervals."""
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.behavior import Position, SpatialSeries

    file = NWBFile("made for a test", "id", datetime(2026, 1, 1, tzinfo=UTC))
    for number, train in enumerate(trains):
        more = {} if obs is None else {"obs_intervals": np.asarray(obs[number], float)}
        file.add_unit(spike_times=np.asarray(train) * scale, **more)
    for start, stop in invalid:
        file.add_invalid_time_interval(start_time=float(start), stop_time=float(stop))
    for start, stop in trials:
        file.add_trial(start_time=float(start), stop_time=float(stop))
    for start, stop, tag in epochs:
        file.add_epoch(float(start), float(stop), [tag])
    if len(position):
        place = np.stack([np.sin(position), np.cos(position)], axis=1)
        series = SpatialSeries(name="pos", data=place, timestamps=position, reference_frame="room", unit="meters")
        file.create_processing_module("behavior", "made for a test").add(Position(spatial_series=series))
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def poisson(rate=20.0, seconds=200.0, units=3, seed=0):
    draws = np.random.default_rng(seed)
    return [np.sort(draws.uniform(0, seconds, draws.poisson(rate * seconds))) for _ in range(units)]


def on_off(seconds=200.0):
    return np.array([[start, start + 5] for start in np.arange(0, seconds, 10)])


def seen_only(trains, intervals):
    return [np.concatenate([t[(t >= a) & (t <= b)] for a, b in intervals]) for t in trains]


@pytest.mark.parametrize("how", ["obs_intervals", "invalid_times", "trials", "epochs"])
def test_noise_seen_half_of_the_time_has_no_signal_and_its_whole_rate(tmp_path, how):
    on = on_off()
    off = np.stack([on[:, 1], on[:, 1] + 5], axis=1)
    trains = poisson()
    parts = {
        "obs_intervals": dict(trains=seen_only(trains, on), obs=[on] * 3),
        "invalid_times": dict(trains=trains, invalid=off),  # spikes there are artefacts, and are left out
        "trials": dict(trains=seen_only(trains, on), trials=on),
        "epochs": dict(trains=seen_only(trains, on), epochs=[(a, b, "on") for a, b in on]),
    }[how]
    recording, notes = load(write(tmp_path / "noise.nwb", **parts))
    assert recording.rates_hz == pytest.approx(20, rel=0.1), "not half of it"
    binned = bin_recording(recording, 0.1)
    assert 0.45 < binned.seen.mean() < 0.52 and binned.snr < 0.1
    as_silence = recording_snr(binned.counts, 0.1)
    assert as_silence > 0.6, "the SNR that silence would feign"
    assert how == "obs_intervals" or ("masked" in notes)


def test_units_have_their_own_observed_time(tmp_path):
    trains = poisson(units=2)
    own = [np.array([[0.0, 200.0]]), np.array([[0.0, 50.0], [120.0, 200.0]])]
    trains[1] = seen_only(trains[1:], own[1])[0]
    recording, _ = load(write(tmp_path / "two.nwb", trains, obs=own))
    observed = recording.observed_bins(1.0)
    assert observed.shape == (200, 2) and observed[:, 0].all() and observed[:, 1].sum() == 130
    assert not observed[50:120, 1].any() and recording.rates_hz == pytest.approx(20, rel=0.1)


def test_intervals_that_end_before_they_start_or_never_are_named(tmp_path):
    odd = [np.array([[30.0, 0.0], [40.0, 60.0]]), np.array([[np.nan, 20.0], [40.0, 60.0]])]
    recording, notes = load(write(tmp_path / "odd.nwb", poisson(units=2), obs=odd, invalid=[(50, 45)]))
    assert "left out 2 obs_intervals without a finite start and later stop" in notes
    assert "left out rows 0 of invalid_times: no finite start and later stop" in notes
    assert recording.observed_bins(1.0).sum() == 20 and recording.interval == (40.0, 60.0)


def test_epochs_that_cover_a_part_do_not_cut_the_recording(case):
    recording, notes = load(case("epochs_part"))
    assert recording.interval[0] < 1 and recording.interval[1] > 599 and recording.observed_bins(1.0).all()
    only, notes = load(case("epochs_part"), within="epochs:stim")
    assert only.observed_bins(0.1).sum() in (599, 600) and "only epochs:stim is used: 60 of" in notes
    with pytest.raises(RecordingError, match="no row of epochs is tagged 'wake'; there are stim"):
        load(case("epochs_part"), within="epochs:wake")
    with pytest.raises(RecordingError, match="has no table 'trials' of intervals; it has epochs"):
        load(case("epochs_part"), within="trials")


def test_each_odd_file_is_read_and_says_what_was_left_out(case):
    assert [len(train) for train in load(case("empty_first"))[0].times] == [0, 289]
    recording, notes = load(case("epoch_nan"))
    assert "left out rows 1 of epochs: no finite start" in notes and recording.interval[1] > 59
    recording, notes = load(case("nan_spike"))
    assert [len(train) for train in recording.times] == [289, 314] and "left out 1 spike times" in notes
    recording, notes = load(case("unsorted"))
    assert "sorted the spike times of units 0" in notes and (np.diff(recording.times[0]) >= 0).all()
    recording, notes = load(case("quality"))
    assert len(recording.times) == 1 and "left out 1 of 2 units with quality = noise" in notes
    assert len(load(case("quality"), drop_quality=())[0].times) == 2
    assert load(case("regions_by_electrode"))[0].regions == ("VISp", "CA1", "CA1", "TH")


def test_series_have_their_offset_and_lose_odd_samples(case):
    import h5py

    with h5py.File(case("offset")) as file:
        raw = file["processing/behavior/Position/pos/data"][:]
    recording, _ = load(case("offset"), behaviour=("pos",))
    assert np.allclose(recording.behaviour["pos"].values, raw * 0.01 + 2.0)
    for name in ("ts_dup", "ts_nan"):
        recording, notes = load(case(name), behaviour=("pos",))
        assert "left out" in notes and "of 3000 samples of pos" in notes
        assert len(recording.behaviour["pos"].times) < 3000


def test_two_series_of_one_name_are_told_apart_by_their_path(case):
    with pytest.raises(RecordingError, match=r"has 2 series of the name 'pos': .*Position/pos, /pos\. Give one"):
        load(case("two_of_one_name"), behaviour=("pos",))
    recording, _ = load(case("two_of_one_name"), behaviour=("Position/pos",))
    assert recording.behaviour["Position/pos"].unit == "meters"
    assert load(case("two_of_one_name"), behaviour=("/pos",))[0].behaviour["/pos"].unit == "px"


def test_times_in_ms_are_refused_until_they_are_named(tmp_path):
    path = write(tmp_path / "ms.nwb", poisson(seconds=60.0), scale=1e3)
    with pytest.raises(RecordingError, match=r"ms\.nwb: 98 % of the gaps .* time_unit='ms'"):
        load(path)
    recording, _ = load(path, time_unit="ms")
    assert recording.interval[1] < 60.1 and recording.rates_hz == pytest.approx(20, rel=0.1)


def test_a_broken_file_is_refused_by_name(tmp_path):
    (tmp_path / "cut.nwb").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    with pytest.raises(RecordingError, match=r"cut\.nwb \(508 bytes\) cannot be opened as HDF5.*fetch it again"):
        load(tmp_path / "cut.nwb")
    import h5py

    with h5py.File(tmp_path / "other.nwb", "w") as file:
        file["x"] = 1
    with pytest.raises(RecordingError, match=r"other\.nwb is HDF5, but pynwb cannot read it"):
        load(tmp_path / "other.nwb")
