"""Bayesian decoding of a place: right on planted place cells, and on two rats that run."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.neurofm.decoders.bayes import BayesianPosition, pooled
from nbkit.neuro.neurofm.decoders.rivals import BAYES, MEAN, rivals_of
from nbkit.neuro.neurofm.decoders.scores import score_decoding
from nbkit.neuro.signals.spikes.binned import BinnedRecording
from nbkit.neuro.signals.spikes.recordings import SpikeWindowSettings, make_windows
from nbkit.neuro.signals.spikes.windows import SpikeShard, split_time, write_windows

CENTRES = np.stack(np.meshgrid([10.0, 30, 50, 70, 90], [10.0, 30, 50]), axis=-1).reshape(-1, 2)


def rates(place):
    """Spikes per bin of 15 planted place cells with fields of 12 cm, for places (..., 2) in cm."""
    gap = ((place[..., None, :] - CENTRES) ** 2).sum(axis=-1)
    return 0.6 * np.exp(-gap / (2 * 12.0**2)) + 0.01


def walk(bins, seed=0):
    """A smooth path over an arena of 100 x 60 cm, in cm, and the spikes of the planted cells."""
    draws = np.random.default_rng(seed)
    phase = np.cumsum(draws.normal(0.02, 0.01, (bins, 2)), axis=0) * [1.0, 1.7]
    place = (1 + np.sin(phase)) / 2 * [100, 60]
    return place, draws.poisson(rates(place))


def test_bayes_of_a_place_is_the_posterior_of_planted_fields():
    place, counts = walk(40_000)
    decoded = BayesianPosition(counts[:30_000], place[:30_000])(counts[30_000:])
    grid = np.stack(np.meshgrid(np.linspace(1, 99, 40), np.linspace(1, 59, 24)), axis=-1).reshape(-1, 2)
    stay = np.histogramdd(place[:30_000], [np.linspace(0, 100, 41), np.linspace(0, 60, 25)])[0].T.ravel() + 1
    log = counts[30_000:] @ np.log(rates(grid)).T - rates(grid).sum(axis=1) + np.log(stay)
    posterior = np.exp(log - log.max(axis=1, keepdims=True))
    best = posterior / posterior.sum(axis=1, keepdims=True) @ grid
    errors = [np.median(np.linalg.norm(found - place[30_000:], axis=1)) for found in (decoded, best)]
    assert errors[0] < 1.05 * errors[1] < 30


def test_spikes_of_neighbouring_bins_are_added_with_the_time_they_were_made_in():
    counts = np.arange(12.0).reshape(1, 6, 2)
    observed = np.ones((1, 6, 2), bool)
    observed[0, 2, 1] = False
    total, bins = pooled(counts, observed, 1)
    for at in range(6):
        near = [n for n in (at - 1, at, at + 1) if 0 <= n < 6]
        assert total[0, at, 0] == sum(counts[0, n, 0] for n in near) and bins[0, at, 0] == len(near)
        assert total[0, at, 1] == sum(counts[0, n, 1] for n in near if n != 2)
        assert bins[0, at, 1] == len(near) - (2 in near)
    same = pooled(counts, observed[..., :1], 0)
    assert np.array_equal(same[0], counts) and same[1].shape == (1, 6, 1)


def test_a_unit_that_was_not_observed_says_nothing_of_the_place():
    place, counts = walk(20_000)
    known = BayesianPosition(counts, place)
    without = BayesianPosition(counts[:, 1:], place)
    seen = np.ones((50, 15), bool)
    seen[:, 0] = False
    assert np.allclose(known(counts[:50], seen), without(counts[:50, 1:]))


def test_bayes_adds_as_many_bins_as_help_and_needs_no_behaviour_in_each_window(tmp_path):
    place, counts = walk(6_000)
    place[1_000:3_000] = np.nan
    cells = tuple(map(str, range(15)))
    planted = BinnedRecording("rat", counts, 0.1, cells, ("",) * 15, place, task="place", behaviour_unit="cm")
    shard = SpikeShard(write_windows(tmp_path, [planted], 50)[0])
    train, _, asked = split_time(shard, (0.7, 0.0, 0.3))
    truth = np.asarray(shard.behaviour[asked], float)
    errors = {name: score_decoding(shard, name, truth, found).error
              for name, found in rivals_of(shard, train, asked, (BAYES, MEAN)).items()}  # fmt: skip
    counted = np.asarray(shard.counts[train], float)
    known = np.isfinite(np.asarray(shard.behaviour[train])).all(axis=2)
    one_bin = BayesianPosition(counted[known], np.asarray(shard.behaviour[train], float)[known])(shard.counts[asked])
    assert errors[BAYES] < 0.7 * score_decoding(shard, "one bin", truth, one_bin).error < 0.5 * errors[MEAN]


@pytest.mark.parametrize(("file", "asked", "constant"), [("linear-track", 51, 134), ("w-maze", 97, 115)])
def test_two_rats_places_are_decoded_while_they_run(shared_data, tmp_path, file, asked, constant):
    path = shared_data / "spikes_hippocampus_rat" / f"{file}.nwb"
    if not path.is_file():
        pytest.skip("the rats (../shared/data/spikes_hippocampus_rat) are not here")
    settings = SpikeWindowSettings(bin_s=0.25, window_s=12.5, behaviour="position", least_speed=15.0)
    row = {"key": file, "source": "folder", "path": str(path)}
    np.savez(tmp_path / "rat.npz", **make_windows(row, settings))
    shard = SpikeShard(tmp_path / "rat.npz")
    train, _, test = split_time(shard, (0.6, 0.1, 0.3), 2.0, 10)
    truth = np.asarray(shard.behaviour[test], float)
    found = rivals_of(shard, train, test, (BAYES, MEAN))
    errors = {name: score_decoding(shard, name, truth, answer).error for name, answer in found.items()}
    assert errors[BAYES] < asked and abs(errors[MEAN] - constant) < 10
