"""Choosing stretches: planted clouds are each chosen from, and the coreset is the farthest-first by brute force."""

import numpy as np
import pytest

from nbkit.neuro.tribe.stimuli.diversity import (
    choose,
    choose_stretches,
    coreset,
    describe_stretches,
    distance_rows,
    interpolate_labels,
)
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, synthetic_stimulus

DRAWS = np.random.default_rng(0)
CENTRES = DRAWS.normal(size=(6, 10)) * 10
CLOUD = np.repeat(np.arange(6), [200, 5, 5, 5, 5, 5])
POINTS = CENTRES[CLOUD] + DRAWS.normal(size=(225, 10)) * 0.3


def test_every_cloud_is_chosen_from_however_small():
    choice = choose_stretches(POINTS, clusters=6)
    assert sorted(CLOUD[choice.chosen]) == [0, 1, 2, 3, 4, 5]
    assert choice.distance < 0.5 * choice.random_distance
    assert len(choose_stretches(POINTS, clusters=6, per_cluster=2).chosen) == 12
    assert len(choose_stretches(POINTS[:4], clusters=300).chosen) == 4


def test_a_distance_is_withheld_where_every_stretch_is_chosen(capsys):
    (row,) = distance_rows(choose_stretches(POINTS, clusters=6))
    assert row["value"] < row["baseline"] and not capsys.readouterr().out
    assert distance_rows(choose_stretches(POINTS[:4], clusters=300)) == []
    assert "All 4 stretches are chosen" in capsys.readouterr().out


def test_the_coreset_takes_the_farthest_next():
    choice = coreset(POINTS, 6)
    assert sorted(CLOUD[choice.chosen]) == [0, 1, 2, 3, 4, 5]
    smaller, larger = coreset(POINTS, 9).chosen, coreset(POINTS, 10).chosen
    (added,) = set(larger) - set(smaller)
    away = np.linalg.norm(POINTS[:, None] - POINTS[smaller][None], axis=2).min(axis=1)
    assert added == away.argmax()


def test_the_way_of_choosing_is_a_name():
    assert np.array_equal(choose("coreset", POINTS, 9).chosen, coreset(POINTS, 9).chosen)
    assert np.array_equal(choose("clusters", POINTS, 6).chosen, choose_stretches(POINTS, 6).chosen)
    assert len(choose("coreset", POINTS[:4], 300).chosen) == 4
    with pytest.raises(ValueError, match="by 'random'; CHOICE may be clusters or coreset"):
        choose("random", POINTS, 6)


def test_labels_between_are_made_up_and_marked():
    chosen = choose_stretches(POINTS, clusters=6).chosen
    truth = POINTS @ DRAWS.normal(size=(10, 4))
    labels, real = interpolate_labels(POINTS, chosen, truth[chosen])
    assert real.sum() == 6 and np.allclose(labels[chosen], truth[chosen])
    error = np.abs(labels - truth)[~real].mean()
    assert error < 0.3 * np.abs(truth.mean(axis=0) - truth).mean()


def test_a_stimulus_is_described_by_its_thirty_second_stretches():
    features = synthetic_stimulus(SyntheticSettings(duration_s=70.0), 0)
    features["video"] = np.zeros_like(features["video"])
    descriptors, starts = describe_stretches(features)
    assert starts.tolist() == [0.0, 30.0, 60.0] and descriptors.shape == (3, 1408)
    assert np.allclose(np.linalg.norm(descriptors[:, :384], axis=1), 1) and not descriptors[:, 768:].any()


def test_nothing_to_choose_from_is_said():
    with pytest.raises(ValueError, match="1 of 225 stretches hold NaN"):
        choose_stretches(np.where(np.arange(225)[:, None] == 3, np.nan, POINTS))
    with pytest.raises(ValueError, match="one stretch or more"):
        coreset(np.zeros((0, 3)), 1)
    with pytest.raises(ValueError, match="size=300 of 225"):
        coreset(POINTS, 300)
