"""Labels between stimuli: moments are described by their past, and near moments have near labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.tribe.interpolated import NEIGHBOURS, describe_moments, labels_between, r_of_interpolation
from nbkit.neuro.tribe.runs.windows import TribeData


def test_a_moment_is_the_mean_of_the_features_2_to_10_s_before_it(some_runs):
    run = some_runs[0]  # steps of 1.49 s: 1 to 7 steps before
    found = describe_moments(run)
    for at in (0, 3, 20):
        past = np.concatenate([run.features["audio"][max(0, at - 7) : at], np.zeros((0, 384))])
        mean = past.sum(0)
        wanted = mean / np.linalg.norm(mean) if mean.any() else mean
        np.testing.assert_allclose(found[at, 384:768], wanted, atol=1e-6)


def test_labels_are_those_of_the_nearest_moments_and_never_a_teachers(some_runs, capsys):
    runs = [run for run in some_runs if run.subject == 0]
    without = [replace(runs[0], teacher=None, teacher_valid=None)]
    (made,), (row,) = labels_between(without, runs[1:], 0.2)
    known = np.concatenate([describe_moments(run)[run.teacher_valid] for run in runs[1:]])
    labels = np.concatenate([run.teacher[run.teacher_valid] for run in runs[1:]])
    away = np.linalg.norm(describe_moments(runs[0])[25] - known, axis=1)
    near = away.argsort()[:NEIGHBOURS]
    np.testing.assert_allclose(made.teacher[25], np.average(labels[near], axis=0, weights=1 / away[near]), atol=1e-4)
    assert made.pseudo and not made.teacher_valid[:6].any() and made.teacher_valid[7:].all()
    assert row["name"] == "r_interpolated" and row["value"] == r_of_interpolation(runs[1:])
    assert "interpolated labels: 1 stimuli" in capsys.readouterr().out
    batch = next(
        iter(TribeData([*runs[1:], made], [replace(runs[0], name="other")], 20, None, 64, 0).train_dataloader())
    )
    assert set(batch["pseudo"].tolist()) == {False, True}


def test_what_lacks_labels_or_stimuli_is_said(some_runs):
    assert labels_between([], some_runs, 0.0) == ([], [])
    with pytest.raises(ValueError, match="Every stimulus with features was watched"):
        labels_between([], some_runs, 0.2)
    with pytest.raises(ValueError, match="labels between stimuli need two"):
        labels_between(some_runs[:1], some_runs[:1], 0.2)
