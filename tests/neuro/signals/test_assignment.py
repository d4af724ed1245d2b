"""One assignment of subjects for all phases: by name alone, whoever else is there."""

from __future__ import annotations

import pytest

from nbkit.neuro.signals.assignment import assign, parsed_fold, place_on_line

NAMES = [f"S{number:03d}" for number in range(400)]


def test_sides_have_their_shares_and_together_are_all():
    train, val, test = assign(NAMES, (0.7, 0.1, 0.2))
    assert train | val | test == set(NAMES) and len(train) + len(val) + len(test) == 400
    assert abs(len(test) - 80) < 25 and abs(len(val) - 40) < 20


def test_a_side_does_not_hang_on_who_else_is_there():
    train, val, test = assign(NAMES)
    some = NAMES[::3]
    fewer = assign(some)
    assert [side & set(some) for side in (train, val, test)] == list(fewer)
    assert test <= assign(NAMES, (0.6, 0.1, 0.3))[2]  # a larger test side holds the smaller one
    assert assign(NAMES[::-1]) == (train, val, test)


def test_folds_are_the_test_side_once_each():
    tested = [assign(NAMES, fold=f"{number}/4")[2] for number in (1, 2, 3, 4)]
    assert set.union(*tested) == set(NAMES) and sum(map(len, tested)) == 400
    for number, test in enumerate(tested, 1):
        train, val, _ = assign(NAMES, fold=f"{number}/4")
        assert train and val and not (train | val) & test


@pytest.mark.parametrize("count", range(3, 12))
@pytest.mark.parametrize("seed", range(5))
def test_small_sets_leave_no_side_empty(count, seed):
    for fold in (None, "2/2", "3/3"):
        sides = assign(NAMES[:count], seed=seed, fold=fold)
        assert all(sides) and sum(map(len, sides)) == count


def test_names_are_plain_and_faults_are_named():
    assert place_on_line("04") == place_on_line(4) == place_on_line("4") != place_on_line("S4")
    assert 0 <= place_on_line("S1", 3) < 1 and place_on_line("S1", 3) != place_on_line("S1", 4)
    assert parsed_fold("2/4") == (2, 4)
    for wrong in ("0/4", "5/4", "4", "a/b", "1/1"):
        with pytest.raises(ValueError, match="no part of the subjects"):
            parsed_fold(wrong)
    with pytest.raises(ValueError, match="no shares"):
        assign(NAMES, (0.5, 0.1, 0.1))
    with pytest.raises(ValueError, match="Too few: 2 groups"):
        assign(["a", "b"])
