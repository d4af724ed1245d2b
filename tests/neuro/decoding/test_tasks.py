"""Tasks: what is decoded is what happened, split so that nobody is on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nbkit.neuro.decoding.folds import outer_folds
from nbkit.neuro.decoding.rivals.bandpower import band_power_model
from nbkit.neuro.decoding.tasks import load_task, rest_or_movement, stand_in


def held_out_auc(task):
    scores = []
    for fold in outer_folds(task.target, task.groups, task.strategy, 4):
        model = band_power_model(task.kind, task.sfreq).fit(task.windows[fold.train], task.target[fold.train])
        scores.append(roc_auc_score(task.target[fold.test], model.decision_function(task.windows[fold.test])))
    return float(np.mean(scores))


def test_the_stand_in_says_that_it_is_one_and_has_both_classes_in_every_subject():
    task = stand_in()
    assert task.windows.shape == (40, 19, 400) and task.windows.dtype == np.float32
    assert task.data.startswith("synthetic") and "synthetic" in task.describe()
    for group in np.unique(task.groups):
        assert set(task.target[task.groups == group]) == {0, 1}
    assert (stand_in(seed=0).windows == task.windows).all()


@pytest.mark.train
def test_permuted_targets_keep_their_counts_in_every_group_and_give_chance():
    task = stand_in(80)
    shuffled = [task.permuted(seed) for seed in range(6)]
    for other in shuffled:
        assert "shuffled" in other.data
        for group in np.unique(task.groups):
            assert other.target[task.groups == group].sum() == task.target[task.groups == group].sum()
    assert held_out_auc(task) > 0.99
    assert abs(np.mean([held_out_auc(other) for other in shuffled]) - 0.5) < 0.1


def test_unknown_names_and_missing_folders_are_refused():
    with pytest.raises(ValueError, match="choose one of windows, rest_or_movement"):
        load_task("sleep")
    with pytest.raises(ValueError, match="needs the root of the cueing data set"):
        load_task("cue_validity")


def test_rest_and_movement_of_a_real_person_stand_apart_in_their_band_powers(eegbci_folder):
    task = rest_or_movement(runs=(4, 8, 12))
    assert task.windows.shape == (90, 64, 800) and task.data == "real" and len(np.unique(task.groups)) == 3
    assert task.strategy == "leave_one_group_out" and task.target.sum() == 45
    assert held_out_auc(task) > 0.7


def test_real_cueing_is_split_by_person_and_its_targets_are_the_events(shared_data, tmp_path):
    root = shared_data / "eeg_cueing_muse"
    if not root.is_dir():
        pytest.skip("the cueing recordings (../shared/data/eeg_cueing_muse) are not here")
    validity = load_task("cue_validity", root, ["106", "111"], tmp_path)
    assert validity.windows.shape[1:] == (4, 400) and set(np.unique(validity.groups)) == {"106", "111"}
    assert set(validity.target) == {0, 1} and validity.target.mean() > 0.5
    times = load_task("response_time", root, ["106", "111"], tmp_path)
    assert times.kind == "regression" and times.unit == "s" and 0.1 < np.median(times.target) < 1.0
