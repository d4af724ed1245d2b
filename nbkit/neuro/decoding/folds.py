"""Outer folds by group, and the inner split that chooses a checkpoint.

No group (a subject, or a run of one subject) is on both sides of a fold, and every fold knows all classes; what cannot
be split so is refused with the counts that were seen. Folds depend on labels, groups and seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STRATEGIES = ("stratified_group_kfold", "group_kfold", "leave_one_group_out")


@dataclass(frozen=True)
class Fold:
    """One outer fold.

    Attributes
    ----------
    number : int
        From 1.
    train, test : ndarray of shape (windows,)
        Positions.
    held_out : tuple of str
        The test side's groups.
    """

    number: int
    train: np.ndarray
    test: np.ndarray
    held_out: tuple[str, ...]


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
        Whose windows they are.
    strategy : {"stratified_group_kfold", "group_kfold", "leave_one_group_out"}
        Through scikit-learn.
    n_splits : int
        Folds; leave_one_group_out has as many as groups.
    task : {"classification", "regression"}
    seed : int
        Draws the groups of stratified_group_kfold.

    Raises
    ------
    ValueError
        For an unknown strategy, more folds than groups, or a fold that lacks a class on one side.
    """
    from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, StratifiedGroupKFold

    target, groups = np.asarray(target), np.asarray(groups).astype(str)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r} is none of {', '.join(STRATEGIES)}.")
    if strategy == "stratified_group_kfold" and task == "regression":
        raise ValueError("stratified_group_kfold needs classes; take group_kfold or leave_one_group_out for values.")
    if len(target) != len(groups) or target.ndim != 1:
        raise ValueError(f"targets of shape {target.shape} and {len(groups)} groups; one of each a window is needed.")
    names = np.unique(groups)
    if strategy != "leave_one_group_out" and not 2 <= n_splits <= len(names):
        raise ValueError(
            f"{n_splits=} with {len(names)} groups ({_few(names)}); 2 to {max(2, len(names))} folds can be made of "
            "them. Take fewer folds, more subjects, or split one subject by run."
        )
    if len(names) < 2:
        raise ValueError(f"all windows are of one group, {_few(names)}: nothing can be held out. Split by run.")
    splitter = {
        "stratified_group_kfold": lambda: StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed),
        "group_kfold": lambda: GroupKFold(n_splits),
        "leave_one_group_out": LeaveOneGroupOut,
    }[strategy]()
    folds = []
    for number, (train, test) in enumerate(splitter.split(np.zeros(len(target)), target, groups), 1):
        fold = Fold(number, train, test, tuple(np.unique(groups[test]).tolist()))
        refuse_overlap(groups[train], groups[test])
        if task == "classification":
            _refuse_one_class(fold, target)
        folds.append(fold)
    return folds


def refuse_overlap(train_groups: Sequence, test_groups: Sequence) -> None:
    """Raise where a group is on both sides.

    Raises
    ------
    ValueError
        With the groups' names.
    """
    both = sorted(set(map(str, train_groups)) & set(map(str, test_groups)))
    if both:
        raise ValueError(
            f"{len(both)} group(s) are on both sides: {_few(both)}. A model that has seen a person scores its "
            "memory of them: train and test must hold different groups."
        )


def check_windows(
    windows: np.ndarray, target: Sequence | None = None, groups: Sequence | None = None, ch_names: Sequence[str] = ()
) -> np.ndarray:
    """Return windows as float32, or say what is wrong with them.

    Parameters
    ----------
    windows : ndarray of shape (windows, channels, time)
        In uV.
    target, groups : sequence of shape (windows,), optional
    ch_names : sequence of str
        To compare their number with the windows'.

    Raises
    ------
    ValueError
        For another shape, NaN or infinite samples, or lengths that differ.
    """
    windows = np.asarray(windows)
    if windows.ndim != 3 or windows.dtype.kind not in "fiu" or not windows.size:
        raise ValueError(
            f"windows of shape {windows.shape}, {windows.dtype}; numbers of shape (windows, channels, time) are needed."
        )
    windows = windows.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(windows).all((1, 2)))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(windows)} windows hold NaN or infinite samples: {_few(bad)}. No model can read them: "
            "leave them out (with their targets and groups), or interpolate their channels."
        )
    if len(ch_names) and len(ch_names) != windows.shape[1]:
        raise ValueError(f"{len(ch_names)} channel names for {windows.shape[1]} channels; there must be one for each.")
    for what, values in (("targets", target), ("groups", groups)):
        if values is not None and len(values) != len(windows):
            raise ValueError(f"{len(values)} {what} for {len(windows)} windows; there must be one for each.")
    return windows


def inner_split(
    target: np.ndarray, groups: Sequence | None, fraction: float, *, classes: bool, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Split a training side once more, to choose the checkpoint on.

    Parameters
    ----------
    target : ndarray of shape (windows,)
    groups : sequence of shape (windows,) or None
    fraction : float
        Share of the windows to choose on.
    classes : bool
        Whether the target is one.
    seed : int

    Returns
    -------
    train, val : ndarray of shape (windows,)
        Positions.
    said : str
        How it was split, for the model card.

    Raises
    ------
    ValueError
        If windows or groups are too few for it.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    if not 0 < fraction < 1:
        raise ValueError(f"val_fraction {fraction} is no share; give one between 0 and 1, such as 0.2.")
    empty, target = np.zeros(len(target)), np.asarray(target)
    names = [] if groups is None else np.unique(np.asarray(groups).astype(str))
    if len(names) >= 2:
        # several draws: where classes lie in groups unevenly, one may leave the training side without a class
        for train, val in GroupShuffleSplit(20, test_size=fraction, random_state=seed).split(empty, target, groups):
            if not classes or set(target[train]) == set(target):
                held = np.unique(np.asarray(groups).astype(str)[val])
                return train, val, f"by group: {_few(held)} held out of {len(names)} to choose the step on"
        raise ValueError(
            f"no split of {len(names)} groups leaves all classes to train on: {_few(names)}. Add groups, or pass "
            "groups=None to split by window."
        )
    if len(target) < 5:
        raise ValueError(f"{len(target)} windows to train on; 5 or more are needed to choose a step on some of them.")
    splitter = (StratifiedShuffleSplit if classes else ShuffleSplit)(1, test_size=fraction, random_state=seed)
    train, val = next(iter(splitter.split(empty, target)))
    return train, val, "by window, for want of groups: the choice of the step is optimistic, the outer test is not"


def _refuse_one_class(fold: Fold, target: np.ndarray) -> None:
    classes = np.unique(target)
    if len(classes) < 2:
        raise ValueError(f"all windows are of class {classes[0]}; two or more classes are needed to tell them apart.")
    for side, places in (("training", fold.train), ("test", fold.test)):
        counts = {str(c): int((target[places] == c).sum()) for c in classes}
        if not all(counts.values()):
            lacking = ", ".join(c for c, n in counts.items() if not n)
            raise ValueError(
                f"fold {fold.number} (held out: {_few(fold.held_out)}) has no window of class {lacking} on its {side} "
                f"side: {counts}. Take fewer folds, stratified_group_kfold, or groups that hold every class."
            )


def _few(names: Sequence) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
