"""Imaging of simulated spikes: how many events, how late and how large, and the recording otherwise as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_population
from nbkit.neuro.signals.spikes.synthetic_imaging import STAND_IN, ImagingSettings, as_two_photon

SPIKES = simulate_population(replace(PopulationSettings.smoke(), units=20), "a")


def test_share_and_size_of_events_are_as_set():
    events = as_two_photon(SPIKES, ImagingSettings(seen=0.4, delay_s=0.0))
    assert events.counts.sum() == pytest.approx(0.4 * SPIKES.counts.sum(), rel=0.05)
    spikes = replace(SPIKES, counts=np.ones((4000, 2), int))
    sizes = as_two_photon(spikes, ImagingSettings(seen=1.0, delay_s=0.0, size_spread=0.5)).counts
    assert sizes.mean() == pytest.approx(1, abs=0.03) and sizes.std() == pytest.approx(0.5, abs=0.03)


def test_events_are_late_by_the_mean_delay():
    counts = np.zeros((400, 500), int)
    counts[10] = 1
    spikes = replace(SPIKES, counts=counts, bin_s=0.02)
    events = as_two_photon(spikes, ImagingSettings(seen=1.0, delay_s=0.1, size_spread=0.0)).counts
    late = np.average(np.arange(400) - 10, weights=events.sum(axis=1))
    assert events.sum() == 500 and late == pytest.approx(5, abs=0.7)


def test_the_rest_of_the_recording_is_as_it_was_and_it_says_what_it_is():
    events = as_two_photon(SPIKES)
    assert events.modality == "two-photon" and events.data == STAND_IN and events.truth == {}
    assert (events.behaviour == SPIKES.behaviour).all() and events.unit_ids == SPIKES.unit_ids
    assert (as_two_photon(SPIKES).counts == events.counts).all() and events.windows(50)["counts"].dtype == np.float32
    assert not (as_two_photon(SPIKES, seed=1).counts == events.counts).all()


@pytest.mark.parametrize(
    ("counts", "settings", "words"),
    [(np.full((9, 2), 0.5), ImagingSettings(), "holds no spike counts"),
     (np.ones((9, 2), int), ImagingSettings(seen=0), "probability above 0")],
)  # fmt: skip
def test_wrong_values_are_refused(counts, settings, words):
    with pytest.raises(ValueError, match=words):
        as_two_photon(replace(SPIKES, counts=counts), settings)
