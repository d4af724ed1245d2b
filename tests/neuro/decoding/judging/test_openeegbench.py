"""OpenEEGBench's divisions: the people of its configuration, and nobody on two sides."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.decoding.compare import CompareSettings, folds_of, run_row
from nbkit.neuro.decoding.folds import outer_folds
from nbkit.neuro.decoding.judging.openeegbench import PREFIX, SPLITS, published_sides
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.decoding.training import FineTuneSettings

ZYMA = f"{PREFIX}arithmetic_zyma2019"
# people on each side, counted in the benchmark's own file
SIZES = {
    "arithmetic_zyma2019": (28, 4, 4), "bcic2a": (3, 3, 3), "physionet": (70, 19, 20), "chbmit": (19, 2, 2),
    "faced": (80, 20, 23), "isruc_sleep": (62, 10, 10), "mdd_mumtaz2016": (29, 7, 28), "seed_vig": (15, 2, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", SPLITS)
def test_nobody_is_on_two_sides_and_each_has_as_many_as_published(name):
    sides = SPLITS[name]
    assert tuple(map(len, sides)) == SIZES[name]
    assert len({person for side in sides for person in side}) == sum(SIZES[name])


def test_zymas_last_four_people_are_tested_on_and_the_four_before_choose():
    people = [f"sub-{number:02d}" for number in range(36) for _ in range(2)]
    fold, *more = outer_folds([0, 1] * 36, people, ZYMA)
    assert not more and fold.held_out == ("sub-32", "sub-33", "sub-34", "sub-35")
    assert {people[row] for row in fold.chosen_on} == {"sub-28", "sub-29", "sub-30", "sub-31"}
    assert len(fold.train) == 56 and not set(fold.train) & {*fold.chosen_on, *fold.test}


def test_people_of_two_kinds_are_told_by_their_letters():
    people = sorted(person for side in SPLITS["mdd_mumtaz2016"] for person in side)
    sides = published_sides(f"{PREFIX}mdd_mumtaz2016", people)
    assert {"HS3", "MDDS3"} <= {people[row] for row in sides.test}
    assert {"HS2", "MDDS2"} <= {people[row] for row in sides.train}


@pytest.mark.parametrize(
    ("name", "people", "words"),
    [
        ("tuev", ["1"], "tuev by the corpus' own folders.*only people whom nothing was trained on"),
        ("mine", ["1"], "no data set 'mine'; those divided by people are arithmetic_zyma2019, bcic2a"),
        ("bcic2a", list("12345678"), "needs all of its 9 people, and of 9 there is no window here"),
        ("bcic2a", [*"123456789", "12"], "does not know 12 of the windows' people. Leave them out with SUBJECTS"),
    ],
)
def test_what_it_does_not_divide_is_refused(name, people, words):
    with pytest.raises(ValueError, match=words):
        published_sides(f"{PREFIX}{name}", people)


def test_a_training_chooses_its_step_on_the_published_people_and_trains_on_no_others(tmp_path, monkeypatch):
    task = stand_in(36, subjects=9)
    settings = CompareSettings(("biot",), ("head",), weights="random", strategy=f"{PREFIX}bcic2a")
    (fold,) = folds_of(task, settings)
    row = {"key": "k", "model": "biot", "mode": "head", "fold": "1"}
    seen = []

    def spied(network, windows, target, chosen_on, *args, **more):
        seen.append(chosen_on)
        return trained(network, windows, target, chosen_on, *args, **more)

    from nbkit.neuro.decoding import finetune

    trained = finetune.train
    monkeypatch.setattr(finetune, "train", spied)
    run_row(row, task, settings, FineTuneSettings.smoke(), tmp_path)
    (fit_on, val_on), rows = seen[0], np.concatenate([fold.train, fold.chosen_on])
    assert set(task.groups[rows[fit_on]]) == {"S01", "S02", "S03"}
    assert set(task.groups[rows[val_on]]) == {"S04", "S05", "S06"}
