"""Outer cross-validation folds by group, and the inner split for choosing a checkpoint.

No group (a subject, or a run of one subject) is on both sides of a fold, and both sides of a fold contain all classes.
If the data cannot be split like this, an error reports the counts. Folds depend on labels, groups and seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbkit.neuro.decoding.judging.openeegbench import PREFIX, published_sides
from nbkit.neuro.signals.assignment import assign

STRATEGIES = ("stratified_group_kfold", "group_kfold", "leave_one_group_out", "store")


@dataclass(frozen=True)
class Fold:
    """One outer fold.

    Attributes
    ----------
    number : int
        Number of the fold, from 1.
    train, test : ndarray of shape (windows,)
        Indices of the windows on each side.
    held_out : tuple of str
        Groups on the test side.
    chosen_on : ndarray of shape (windows,), optional
        Indices of further windows, on which a training chooses its best step; None draws them from the training side.
    """

    number: int
    train: np.ndarray
    test: np.ndarray
    held_out: tuple[str, ...]
    chosen_on: np.ndarray | None = None


def outer_folds(
    target: Sequence,
    groups: Sequence,
    strategy: str = "stratified_group_kfold",
    n_splits: int = 5,
    *,
    task: str = "classification",
    seed: int = 2025,
) -> list[Fold]:
    """Return the folds of an outer cross-validation.

    Parameters
    ----------
    target : sequence of shape (windows,)
    groups : sequence of shape (windows,)
        Group of each window.
    strategy : {"stratified_group_kfold", "group_kfold", "leave_one_group_out", "store"} or str
        Splitter of scikit-learn; "store": the parts of the store's one assignment (see `assign`), so that fold 2 of 4
        holds out whom FOLD = "2/4" holds out in a pretraining; "openeegbench/arithmetic_zyma2019": the one division
        of people of that benchmark's data set (see `published_sides`).
    n_splits : int
        Number of folds; ignored by leave_one_group_out, which has one fold per group, and by published divisions.
    task : {"classification", "regression"}
    seed : int
        Random seed of stratified_group_kfold.

    Raises
    ------
    ValueError
        If the strategy is unknown, there are more folds than groups, or a class is missing on one side of a fold.
    """
    target, groups = np.asarray(target), np.asarray(groups).astype(str)
    published = strategy.startswith(PREFIX)
    if strategy not in STRATEGIES and not published:
        raise ValueError(
            f"There is no strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}, or {PREFIX}<data set>."
        )
    if strategy == "stratified_group_kfold" and task == "regression":
        raise ValueError(
            "The strategy stratified_group_kfold needs classes; use group_kfold or leave_one_group_out for values."
        )
    if len(target) != len(groups) or target.ndim != 1:
        raise ValueError(
            f"Targets have shape {target.shape} and there are {len(groups)} groups; pass one target and one group per "
            "window."
        )
    names = np.unique(groups)
    if strategy != "leave_one_group_out" and not published and not 2 <= n_splits <= len(names):
        raise ValueError(
            f"Got {n_splits=} with {len(names)} groups ({_few(names)}); these allow 2 to {max(2, len(names))} folds. "
            "Use fewer folds, more subjects, or split one subject by run."
        )
    if len(names) < 2:
        raise ValueError(f"All windows are of one group, {_few(names)}: nothing can be held out. Split by run.")
    chosen_on = None
    if published:
        sides = published_sides(strategy, groups.tolist())
        splits, chosen_on = [(sides.train, sides.test)], sides.chosen_on
    elif strategy == "store":
        splits = _parts_of_the_store(groups, n_splits)
    else:
        splits = _splitter(strategy, n_splits, seed).split(np.zeros(len(target)), target, groups)
    folds = []
    for number, (train, test) in enumerate(splits, 1):
        fold = Fold(number, train, test, tuple(np.unique(groups[test]).tolist()), chosen_on)
        refuse_overlap(groups[train], groups[test])
        if task == "classification":
            _refuse_one_class(fold, target)
        folds.append(fold)
    return folds


def _splitter(strategy: str, n_splits: int, seed: int) -> Any:
    from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, StratifiedGroupKFold

    if strategy == "group_kfold":
        return GroupKFold(n_splits)
    if strategy == "leave_one_group_out":
        return LeaveOneGroupOut()
    return StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)


def _parts_of_the_store(groups: np.ndarray, n_splits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number in range(1, n_splits + 1):
        held = assign(groups.tolist(), fold=f"{number}/{n_splits}")[-1]
        inside = np.isin(groups, sorted(held))
        yield np.flatnonzero(~inside), np.flatnonzero(inside)


def refuse_overlap(train_groups: Sequence, test_groups: Sequence) -> None:
    """Raise an error if a group is on both sides of a fold.

    Raises
    ------
    ValueError
        If the training and test groups overlap; the message names the groups.
    """
    both = sorted(set(map(str, train_groups)) & set(map(str, test_groups)))
    if both:
        raise ValueError(
            f"The same {len(both)} group(s) are on both sides: {_few(both)}. The score of a model that was trained on "
            "the same person is too optimistic: put different groups on the training and test sides."
        )


def check_windows(
    windows: np.ndarray, target: Sequence | None = None, groups: Sequence | None = None, ch_names: Sequence[str] = ()
) -> np.ndarray:
    """Return windows as float32 after checking their shape and values.

    Parameters
    ----------
    windows : ndarray of shape (windows, channels, time)
        In uV.
    target, groups : sequence of shape (windows,), optional
    ch_names : sequence of str
        Their number is compared with the windows' channels.

    Raises
    ------
    ValueError
        If the shape is wrong, samples are NaN or infinite, or the lengths of the arguments differ.
    """
    windows = np.asarray(windows)
    if windows.ndim != 3 or windows.dtype.kind not in "fiu" or not windows.size:
        raise ValueError(
            f"Windows have shape {windows.shape} and type {windows.dtype}; pass numbers of shape (windows, channels, "
            "time)."
        )
    windows = windows.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(windows).all((1, 2)))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(windows)} windows hold NaN or infinite samples: {_few(bad)}. No model accepts them: "
            "remove them with their targets and groups, or interpolate their channels."
        )
    if len(ch_names) and len(ch_names) != windows.shape[1]:
        raise ValueError(
            f"Got {len(ch_names)} channel names for {windows.shape[1]} channels; pass one name per channel."
        )
    for what, values in (("targets", target), ("groups", groups)):
        if values is not None and len(values) != len(windows):
            raise ValueError(f"Got {len(values)} {what} for {len(windows)} windows; pass one per window.")
    return windows


def inner_split(
    target: np.ndarray, groups: Sequence | None, fraction: float, *, classes: bool, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Split the training side again, into windows to train on and windows to choose the checkpoint on.

    Parameters
    ----------
    target : ndarray of shape (windows,)
    groups : sequence of shape (windows,) or None
    fraction : float
        Share of the windows for choosing the checkpoint.
    classes : bool
        Whether the target consists of classes.
    seed : int

    Returns
    -------
    train, val : ndarray of shape (windows,)
        Indices of the windows.
    said : str
        Description of the split, for the model card.

    Raises
    ------
    ValueError
        If there are too few windows or groups.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    if not 0 < fraction < 1:
        raise ValueError(f"The val_fraction is {fraction}; choose a share between 0 and 1, such as 0.2.")
    empty, target = np.zeros(len(target)), np.asarray(target)
    names = [] if groups is None else np.unique(np.asarray(groups).astype(str))
    if len(names) >= 2:
        # several draws: with classes spread unevenly over groups, one may leave the training side without a class
        for train, val in GroupShuffleSplit(20, test_size=fraction, random_state=seed).split(empty, target, groups):
            if not classes or set(target[train]) == set(target):
                held = np.unique(np.asarray(groups).astype(str)[val])
                return train, val, f"by group: {_few(held)} held out of {len(names)} to choose the step on"
        raise ValueError(
            f"There is no split of {len(names)} groups that leaves all classes on the training side: {_few(names)}. "
            "Add groups, or pass groups=None to split by window."
        )
    if len(target) < 5:
        raise ValueError(
            f"There are {len(target)} windows to train on; 5 or more are needed, because some choose the checkpoint."
        )
    splitter = (StratifiedShuffleSplit if classes else ShuffleSplit)(1, test_size=fraction, random_state=seed)
    train, val = next(iter(splitter.split(empty, target)))
    return train, val, "by window, because there are no groups: the choice of the step is optimistic, the test is not"


def _refuse_one_class(fold: Fold, target: np.ndarray) -> None:
    classes = np.unique(target)
    if len(classes) < 2:
        raise ValueError(f"All windows are of class {classes[0]}; a classification needs two or more classes.")
    for side, places in (("training", fold.train), ("test", fold.test)):
        counts = {str(c): int((target[places] == c).sum()) for c in classes}
        if not all(counts.values()):
            lacking = ", ".join(c for c, n in counts.items() if not n)
            raise ValueError(
                f"Fold {fold.number} (held out: {_few(fold.held_out)}) has no window of class {lacking} on its {side} "
                f"side: {counts}. Use fewer folds, stratified_group_kfold, or groups that contain every class."
            )


def _few(names: Sequence) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
