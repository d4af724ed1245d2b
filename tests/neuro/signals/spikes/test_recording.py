"""Recordings of spikes: what is refused, what is counted, and how reliable it is."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.signals.spikes.behaviour import Behaviour, resting
from nbkit.neuro.signals.spikes.nwb import load_nwb
from nbkit.neuro.signals.spikes.recording import SpikeRecording
from nbkit.neuro.signals.spikes.reliability import recording_snr, unit_reliability


def recording(*trains, interval=(0.0, 10.0), **facts) -> SpikeRecording:
    ids = facts.pop("unit_ids", tuple(f"u{i}" for i in range(len(trains))))
    return SpikeRecording("rec", tuple(np.asarray(t, float) for t in trains), ids, interval, **facts)


def test_counts_are_those_of_numpy_histogram():
    draws = np.random.default_rng(0)
    trains = [np.sort(draws.uniform(2, 9.3, size)) for size in (500, 0, 31)]
    made = recording(*trains, interval=(2.0, 9.3))
    counts = made.counts(0.2)
    edges = made.edges(0.2)
    assert counts.shape == (36, 3)
    for unit, train in enumerate(trains):
        inside = train[train < edges[-1]]
        assert np.array_equal(counts[:, unit], np.histogram(inside, edges)[0])
    assert counts[:, 1].sum() == 0  # a silent unit is kept, as silence
    assert made.active().unit_ids == ("u0", "u2")


@pytest.mark.parametrize(
    ("trains", "facts", "words"),
    [
        ([], {}, "has no unit"),
        ([[1, 3, 2]], {}, "go from 3 to 2 s at index 2"),
        ([[1, np.nan]], {}, "not finite, the first at index 1"),
        ([[1], [2]], {"unit_ids": ("a", "a")}, "unit ids a are repeated"),
        ([[1, 11]], {}, "1 of 2 spikes lie outside the observed interval 0 to 10 s"),
        ([[-1.0]], {}, "lie outside"),
        ([[1]], {"interval": (3.0, 3.0)}, "start < stop"),
        ([[1], [2]], {"regions": ("a", "b", "c")}, "3 regions"),
    ],
)
def test_a_recording_that_cannot_be_is_refused(trains, facts, words):
    with pytest.raises(ValueError, match=words):
        recording(*trains, **facts)


def test_arrays_become_trains_and_silent_units_stay():
    made = SpikeRecording.from_arrays("r", [1.0, 0.5, 2.0], [7, 3, 7], units=[3, 5, 7], interval=(0, 4))
    assert made.unit_ids == ("3", "5", "7")
    assert [train.tolist() for train in made.times] == [[0.5], [], [1.0, 2.0]]
    assert made.rates_hz.tolist() == [0.25, 0.0, 0.5]
    with pytest.raises(ValueError, match="go from 2 to 1"):
        SpikeRecording.from_arrays("r", [2.0, 1.0], [7, 7])
    with pytest.raises(ValueError, match="is empty"):
        SpikeRecording.from_arrays("r", [], [])
    with pytest.raises(ValueError, match="spikes of units 7"):
        SpikeRecording.from_arrays("r", [2.0], [7], units=[3])
    with pytest.raises(ValueError, match="without '/'"):
        SpikeRecording.from_arrays("a/b", [2.0], [7], interval=(0, 3))
    silent = SpikeRecording.from_arrays("r", [], [], units=[1], interval=(0, 1))
    assert silent.counts(0.5).tolist() == [[0], [0]]


def test_rest_is_told_from_running_although_the_tracking_jitters():
    draws = np.random.default_rng(0)
    run, rest = np.linspace(0, 200, 200), np.full(200, 200.0)  # 10 cm/s, then nothing, in bins of 0.1 s
    place = np.stack([np.concatenate([run, rest]), np.full(400, 3.0)], axis=1) + draws.normal(0, 0.5, (400, 2))
    place[50:60] = np.nan
    slow = resting(place, 0.1, least=5.0)
    assert not slow[:190].any() and slow[210:].all(), "jitter of 0.5 cm a bin alone is 7 cm/s"
    assert not resting(place, 0.1, least=0.0).any() and resting(place, 0.1, least=1e6).sum() == 390
    assert not resting(np.full((5, 2), np.nan), 0.1, least=5.0).any()


def test_behaviour_is_averaged_in_bins_and_on_the_circle():
    times = np.array([0.1, 0.3, 0.6, 2.6])
    straight = Behaviour(times, np.array([1.0, 3.0, 5.0, 7.0]), "cm")
    assert straight.in_bins(np.arange(4.0))[:, 0] == pytest.approx([3.0, np.nan, 7.0], nan_ok=True)
    around = Behaviour(times, np.array([0.1, 2 * np.pi - 0.1, 0.0, np.nan]), "rad", circular=True)
    first = around.in_bins(np.array([0.0, 1.0, 2.0]))
    assert first[0] == pytest.approx([1.0, 0.0], abs=1e-6) and np.isnan(first[1]).all()
    fine = Behaviour(np.arange(0, 1, 0.1), np.arange(10.0), "1").in_bins(np.arange(0.0, 0.9, 0.02))
    assert fine[11, 0] == pytest.approx(2.3)  # between two samples: the value in between
    with pytest.raises(ValueError, match="go from 1 to 1 s at index 1"):
        Behaviour(np.array([1.0, 1.0]), np.zeros(2), "cm")


def test_reliability_is_the_share_of_variance_that_is_the_rates():
    draws = np.random.default_rng(1)
    mean, depth, bins = 8.0, np.array([0.0, 0.2, 0.5, 0.9]), 40_000
    rate = mean * (1 + depth * np.sin(2 * np.pi * draws.random((bins, 1))))
    counts = draws.poisson(rate)
    signal = (mean * depth) ** 2 / 2
    assert unit_reliability(counts) == pytest.approx(signal / (signal + mean), abs=0.03)
    assert np.isnan(unit_reliability(np.zeros((100, 1), int))).all()
    assert recording_snr(counts, 0.5) == pytest.approx(np.mean(signal / (signal + mean)), abs=0.02)


def test_a_part_keeps_its_clock():
    part = recording([1, 4, 6], [5]).within(3, 20)
    assert part.interval == (3, 10.0) and [t.tolist() for t in part.times] == [[4, 6], [5]]


def test_a_mouses_nwb_file_is_read_whole(shared_data):
    path = shared_data / "spikes_hd_mouse" / "A2929-200711.nwb"
    if not path.is_file():
        pytest.skip("the mouse's recording (../shared/data/spikes_hd_mouse) is not here")
    mouse = load_nwb(path, behaviour=("ry",), species="mouse")
    assert sum(len(train) for train in mouse.times) == 98_794  # as its PROVENANCE says
    assert mouse.regions == ("adn",) * 7 + ("ca1",) * 8 and mouse.interval == (0.0, 1200.0)
    assert mouse.behaviour["ry"].circular and mouse.behaviour["ry"].unit == "rad"
    with pytest.raises(ValueError, match="has no series 'speed'; it has .*ry"):
        load_nwb(path, behaviour=("speed",))
    with pytest.raises(FileNotFoundError, match="dandi download"):
        load_nwb(path.with_name("absent.nwb"))


def test_many_units_of_a_probe_are_read(shared_data):
    path = shared_data / "spikes_ibl" / "ephys_test.npz"
    if not path.is_file():
        pytest.skip("the probe's spikes (../shared/data/spikes_ibl) are not here")
    with np.load(path) as file:
        probe = SpikeRecording.from_arrays("ibl", file["spike_times"], file["spike_clusters"])
    assert len(probe.times) == 289 and sum(map(len, probe.times)) == 124_905
    assert probe.counts(0.01).sum() >= 124_900  # the last bin is not whole
