"""Splits: nothing on both sides, and the same whatever the order."""

from __future__ import annotations

import random

import pytest

from nbkit.neuro.signals.splits import split_by_run, split_by_subject, split_recordings


def rows(subjects, runs):
    return [{"subject": s, "run": r, "key": f"{s}-{r}"} for s in subjects for r in runs]


@pytest.mark.parametrize("seed", range(5))
def test_no_subject_is_on_both_sides(seed):
    train, val = split_by_subject(rows(range(10), range(3)), 0.3, seed)
    assert not {r["subject"] for r in train} & {r["subject"] for r in val}
    assert len({r["subject"] for r in val}) == 3 and len(train) + len(val) == 30


@pytest.mark.parametrize("seed", range(5))
def test_no_run_is_on_both_sides(seed):
    train, val = split_by_run(rows([1], (3, 4, 6, 8, 11, 12)), 0.34, seed)
    assert not {r["key"] for r in train} & {r["key"] for r in val}
    assert len(val) == 2 and len(train) == 4


def test_order_of_the_rows_does_not_matter():
    listed = rows(range(12), range(2))
    mixed = random.Random(0).sample(listed, len(listed))
    keys = [{r["key"] for r in split_recordings(some)[1]} for some in (listed, mixed)]
    assert keys[0] == keys[1]


def test_another_seed_draws_others():
    drawn = {tuple(r["key"] for r in split_by_subject(rows(range(20), [1]), 0.2, seed)[1]) for seed in range(8)}
    assert len(drawn) > 1


def test_one_subject_is_split_by_run_and_more_by_subject():
    assert len({r["run"] for r in split_recordings(rows([1], range(5)))[1]}) == 1
    assert {r["run"] for r in split_recordings(rows([1, 2], range(5)))[1]} == set(range(5))


def test_named_runs_are_those_validated_on():
    train, val = split_by_run(rows([1, 2], ("3", "04", 6)), val=(4,))
    assert {r["run"] for r in val} == {"04"} and len(val) == 2 and len(train) == 4


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: split_by_run(rows([1], [3])), "both sides need at least one"),
        (lambda: split_by_subject(rows([1], [3, 4])), r"1 subject\(s\) \(1\)"),
        (lambda: split_by_run(rows([1], [3, 4]), val=(9,)), "No run 9 among the 2 there are: 3, 4"),
        (lambda: split_by_run(rows([1], [3, 4]), val_fraction=20), "between 0 and 1"),
        (lambda: split_by_run([]), "none"),
    ],
)
def test_impossible_splits_are_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
