"""Decoding tasks on windows that 10_eeg_windows stored: any column as the target, any column as the group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.signals.windows.montages import Montage, group_by_montage
from nbkit.neuro.signals.windows.shards import WindowShards

_CLASS_COLUMNS = ("label", "event")  # hold names, even where these are numbers
_MOST_CLASSES = 12  # whole numbers with more values than this are a quantity


def window_task(
    paths: Sequence[str | Path],
    target: str = "label",
    group: str = "subject",
    subjects: Sequence[int | str] = (),
    *,
    classes: Sequence[str] = (),
    leave_one_out: bool = False,
    say: Callable[[str], None] = print,
) -> DecodingTask:
    """Return a task on stored windows.

    Windows without the target are left out and counted. If there are several montages, the one of most windows is
    used, and the others are named.

    Parameters
    ----------
    paths : sequence of path
        Outputs of 10_eeg_windows.
    target : str
        A column of the windows: ``label``, or one of the tables of events, people or recordings.
    group : str
        What separates the folds: ``subject``, ``run``, ``recording``, or a column such as ``site``.
    subjects : sequence, optional
        Subjects to use; by default all.
    classes : sequence of str, optional
        Classes to use, in their order; by default all of the target. Windows of others are left out.
    leave_one_out : bool
        One fold per group instead of a number of folds.
    say : callable
        Prints one line about what is left out.

    Raises
    ------
    ValueError
        If the windows have no such column, no window has a target, or there is only one class or group.
    """
    montages = group_by_montage(paths, "pretrain")
    if len(montages) > 1:
        others = "; ".join(str(montage) for montage in montages[1:])
        say(f"Several montages are stored. Used: {montages[0]}. Left out: {others}.")
    shards = WindowShards(montages[0].paths, columns=(), purpose="pretrain")
    keep = np.ones(len(shards), bool)
    if len(subjects):
        wanted = {_plain(subject) for subject in subjects}
        keep &= np.array([_plain(subject) in wanted for subject in shards.subjects])
    values = shards.column(target)
    words = values.dtype.kind == "U" or target in _CLASS_COLUMNS
    texts = np.array([_text(value) for value in values])
    if classes:
        keep &= np.isin(texts, [str(name) for name in classes])
    known = texts != "" if words or classes else np.isfinite(values.astype(float))
    if not (keep & known).any():
        raise ValueError(
            f"No window of {len(values)} has a value of {target!r}; the columns are {', '.join(shards.column_names)}. "
            f"Its values: {_counted(texts)}."
        )
    if lost := int((keep & ~known).sum()):
        say(f"{lost} of {int(keep.sum())} windows have no {target} and are left out.")
    rows = np.flatnonzero(keep & known)
    numbers = None if words else values[rows].astype(float)
    as_classes = bool(classes) or words or (numbers is not None and _few_whole(numbers))
    common = dict(
        windows=_stacked(shards, rows), groups=_groups(shards, montages[0], group)[rows], sfreq=shards.sfreq,
        ch_names=tuple(shards.ch_names), data=shards.fact("data", "real"),
    )  # fmt: skip
    one_out = "leave_one_group_out" if leave_one_out else ""
    if not as_classes and numbers is not None:
        return DecodingTask(
            f"windows_{target}", "regression", target=numbers, strategy=one_out or "group_kfold", **common
        )  # fmt: skip
    names = tuple(str(name) for name in classes) or tuple(sorted(set(texts[rows].tolist())))
    if len(names) < 2:
        raise ValueError(
            f"All windows with a {target} are {names[0]!r}; there is nothing to tell apart. Values: {_counted(texts)}."
        )
    number = {name: place for place, name in enumerate(names)}
    found = np.array([number[text] for text in texts[rows]])
    return DecodingTask(
        f"windows_{target}", "classification", target=found, classes=names,
        strategy=one_out or "stratified_group_kfold", **common,
    )  # fmt: skip


def _groups(shards: WindowShards, montage: Montage, group: str) -> np.ndarray:
    if group == "subject":
        return shards.subjects.astype(str)
    if group in shards.column_names:
        return np.array([_text(value) for value in shards.column(group)])
    if group in ("recording", "run"):
        names = [
            str(facts.get(group, path.parent.name)) for facts, path in zip(shards.facts, montage.paths, strict=True)
        ]
        whose = [f"{subject}/" if group == "run" else "" for subject in shards.subjects]
        return np.array([f"{who}{names[shard]}" for who, shard in zip(whose, shards.shard_of, strict=True)])
    raise ValueError(
        f"GROUP={group!r} is no column of the windows; give subject, run, recording or one of "
        f"{', '.join(shards.column_names)}."
    )


def _stacked(shards: WindowShards, rows: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(shards[int(row)]["window"], np.float32) for row in rows])


def _few_whole(numbers: np.ndarray) -> bool:
    return bool((numbers == numbers.round()).all()) and len(np.unique(numbers)) <= _MOST_CLASSES


def _text(value: object) -> str:
    """Return a value of a column as text: 1.0 as 1, NaN as nothing."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)


def _plain(value: object) -> str:
    text = str(value)
    return str(int(text)) if text.isdecimal() else text


def _counted(texts: np.ndarray) -> str:
    found = Counter(text or "(none)" for text in texts.tolist()).most_common(8)
    return ", ".join(f"{name}: {count}" for name, count in found)
