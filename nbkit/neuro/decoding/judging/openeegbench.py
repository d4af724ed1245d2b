"""The splits of OpenEEGBench: for each of its data sets, one division of the people to train, choose and test on.

They are those of its version 0.6 (github.com/braindecode/OpenEEGBench, open_eeg_bench/default_configs/datasets.py). One
division of few people says little: use them to stand beside its published scores, and folds over all people for a
claim of one's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

PREFIX = "openeegbench/"  # of a strategy of folds; the data set follows


def _span(first: int, last: int, form: str = "{}") -> tuple[str, ...]:
    return tuple(form.format(number) for number in range(first, last + 1))


# it sorted the names as text: 1, 10 to 19, 2, 20 ...
_HEALTHY = (
    _span(1, 2, "HS{}") + _span(10, 22, "HS{}"), _span(23, 25, "HS{}"),
    _span(3, 9, "HS{}") + _span(26, 30, "HS{}"),
)  # fmt: skip
_ILL = (
    _span(1, 2, "MDDS{}") + _span(10, 21, "MDDS{}"), _span(22, 25, "MDDS{}"),
    _span(3, 9, "MDDS{}") + _span(26, 34, "MDDS{}"),
)  # fmt: skip
_NOT_IN_ISRUC = {12, 15, 16, 18, 22, 24, 26, 40}
_ISRUC = tuple(f"I{number:03d}" for number in range(11, 81) if number not in _NOT_IN_ISRUC)

# people to train on, to choose the step on, to test on
SPLITS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "arithmetic_zyma2019": (_span(0, 27), _span(28, 31), _span(32, 35)),
    "bcic2a": (_span(1, 3), _span(4, 6), _span(7, 9)),
    "physionet": (_span(1, 70), _span(71, 89), _span(90, 109)),
    "chbmit": (_span(1, 19), _span(20, 21), _span(22, 23)),
    "faced": (_span(0, 79), _span(80, 99), _span(100, 122)),
    "isruc_sleep": (_ISRUC, _span(81, 90, "I{:03d}"), _span(91, 100, "I{:03d}")),
    "mdd_mumtaz2016": tuple(healthy + ill for healthy, ill in zip(_HEALTHY, _ILL, strict=True)),  # type: ignore[dict-item]
    "seed_vig": (_span(1, 3) + _span(10, 21), _span(4, 5), _span(6, 9)),
}
# these are divided otherwise, so that the same person is on two sides, or nobody is tested on
_NOT_BY_PEOPLE = {
    "bcic2020_3": "by run, with every person on all sides",
    "seed_v": "by session, with every person on all sides",
    "tuab": "by the corpus' own folders, without people to test on",
    "tuev": "by the corpus' own folders, without people to test on",
}


@dataclass(frozen=True)
class Sides:
    """Which windows are on which side of a division.

    Attributes
    ----------
    train, chosen_on, test : ndarray of shape (windows,)
        Indices of the windows.
    """

    train: np.ndarray
    chosen_on: np.ndarray
    test: np.ndarray


def published_sides(strategy: str, people: Sequence[str]) -> Sides:
    """Return OpenEEGBench's division of windows by the people that they are of.

    Names are compared by their numbers ("sub-003" is "3"); where a data set has people of two kinds, by their letters
    as well ("HS3" is not "MDDS3").

    Parameters
    ----------
    strategy : str
        `PREFIX` and the name of a data set.
    people : sequence of str of shape (windows,)

    Raises
    ------
    ValueError
        If the data set is unknown or not divided by people, or the windows are not of its people.
    """
    name = strategy.removeprefix(PREFIX)
    if name in _NOT_BY_PEOPLE:
        raise ValueError(
            f"OpenEEGBench divides {name} {_NOT_BY_PEOPLE[name]}; nbkit scores only people whom nothing was trained "
            "on. Choose stratified_group_kfold, group_kfold or leave_one_group_out."
        )
    if name not in SPLITS:
        raise ValueError(f"OpenEEGBench has no data set {name!r}; those divided by people are {', '.join(SPLITS)}.")
    sides = SPLITS[name]
    by_letters = len({_letters(person) for side in sides for person in side}) > 1
    mine = np.array([_plain(person, by_letters) for person in people])
    theirs = [{_plain(person, by_letters) for person in side} for side in sides]
    known, here = set().union(*theirs), set(mine.tolist())
    if missing := sorted(known - here):
        raise ValueError(
            f"OpenEEGBench's division of {name} needs all of its {len(known)} people, and of {_few(missing)} there is "
            f"no window here (people here: {_few(sorted(set(map(str, people))))}). Cut the windows of all of them, or "
            "choose other folds."
        )
    if strange := sorted(here - known):
        raise ValueError(
            f"OpenEEGBench's division of {name} does not know {_few(strange)} of the windows' people. Leave them out "
            "with SUBJECTS, or choose other folds."
        )
    return Sides(*(np.flatnonzero(np.isin(mine, sorted(side))) for side in theirs))


def _letters(person: str) -> str:
    return re.sub(r"[^A-Z]", "", person.upper())


def _plain(person: str, by_letters: bool) -> str:
    found = re.findall(r"\d+", str(person))
    number = str(int(found[-1])) if found else str(person)
    return f"{_letters(str(person))}{number}" if by_letters else number


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
