"""Folds: no group on both sides, every class on each, and clear words where that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.decoding.folds import STRATEGIES, check_windows, inner_split, outer_folds, refuse_overlap

GROUPS = np.repeat([f"S{i}" for i in range(7)], 6)
TARGET = np.tile([0, 1, 1], 14)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_window_is_tested_once_and_no_group_is_on_both_sides(strategy):
    folds = outer_folds(TARGET, GROUPS, strategy, n_splits=3)
    assert len(folds) == (7 if strategy == "leave_one_group_out" else 3)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(TARGET)))
    for fold in folds:
        assert not set(GROUPS[fold.train]) & set(GROUPS[fold.test])
        assert set(fold.held_out) == set(GROUPS[fold.test])
        assert len(fold.train) + len(fold.test) == len(TARGET)


def test_folds_depend_on_the_seed_alone():
    first, again = (outer_folds(TARGET, GROUPS, n_splits=3, seed=4) for _ in range(2))
    assert all((a.test == b.test).all() for a, b in zip(first, again, strict=True))
    other = [outer_folds(TARGET, GROUPS, n_splits=3, seed=seed) for seed in range(5)]
    assert len({tuple(f.held_out for f in folds) for folds in other}) > 1


def test_a_subject_on_both_sides_raises():
    refuse_overlap(["a", "b"], ["c"])
    with pytest.raises(ValueError, match=r"1 group\(s\) are on both sides: b\."):
        refuse_overlap(["a", "b"], ["b", "c"])


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"strategy": "kfold"}, "no strategy 'kfold'; choose one of stratified_group_kfold"),
        ({"n_splits": 8}, "n_splits=8 with 7 groups"),
        ({"task": "regression"}, "use group_kfold or leave_one_group_out for values"),
        ({"target": TARGET[:-1]}, "one target and one group per window"),
        ({"target": TARGET * 0}, "All windows are of class 0"),
        ({"groups": ["S1"] * 42, "strategy": "leave_one_group_out"}, "All windows are of one group"),
        ({"target": (GROUPS == "S0").astype(int), "strategy": "leave_one_group_out"}, "no window of class 1 on its"),
    ],
)
def test_what_cannot_be_split_is_refused_with_what_was_seen(more, word):
    call = {"target": TARGET, "groups": GROUPS, "strategy": "stratified_group_kfold"} | more
    with pytest.raises(ValueError, match=word):
        outer_folds(call.pop("target"), call.pop("groups"), **call)


@pytest.mark.parametrize(
    ("windows", "more", "word"),
    [
        (np.zeros((4, 10)), {}, r"shape \(4, 10\)"),
        (np.array([[["a"]]]), {}, "pass numbers of shape"),
        (np.zeros((3, 2, 5)), {"ch_names": ["Cz"]}, "1 channel names for 2 channels"),
        (np.zeros((3, 2, 5)), {"target": [1, 2]}, "2 targets for 3 windows"),
        (np.zeros((3, 2, 5)), {"groups": [1]}, "1 groups for 3 windows"),
        (np.where(np.arange(30).reshape(3, 2, 5) == 12, np.nan, 0.0), {}, "1 of 3 windows hold NaN .* samples: 1"),
    ],
)
def test_windows_that_no_model_can_read_are_refused(windows, more, word):
    with pytest.raises(ValueError, match=word):
        check_windows(windows, **more)


def test_the_inner_split_is_by_group_where_there_are_groups_and_says_so():
    train, val, said = inner_split(TARGET, GROUPS, 0.3, classes=True, seed=1)
    assert not set(GROUPS[train]) & set(GROUPS[val]) and "by group" in said
    assert sorted([*train, *val]) == list(range(42))
    train, val, said = inner_split(TARGET, None, 0.3, classes=True, seed=1)
    assert set(TARGET[train]) == set(TARGET[val]) == {0, 1} and "optimistic" in said
    with pytest.raises(ValueError, match="no split of 2 groups that leaves all classes"):
        inner_split(np.array([0, 0, 1, 1]), ["a", "a", "b", "b"], 0.5, classes=True, seed=0)
    with pytest.raises(ValueError, match="3 windows to train on"):
        inner_split(np.zeros(3), None, 0.3, classes=False, seed=0)
