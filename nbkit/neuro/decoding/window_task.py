"""Decoding tasks on windows that 10_eeg_windows stored: any column as the target, any column as the group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.recorded import recorded_of
from nbkit.neuro.signals.windows.montages import Montage, largest_montage
from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.neuro.signals.windows.targets import as_text, choose_target


def window_task(
    paths: Sequence[str | Path],
    target: str = "label",
    group: str = "subject",
    subjects: Sequence[int | str] = (),
    *,
    classes: Sequence[str] | None = (),
    leave_one_out: bool = False,
    mains: float | None = None,
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
        Classes to use, in their order; by default all of the target. Windows of others are left out. None: no classes,
        but the numbers.
    leave_one_out : bool
        One fold per group instead of a number of folds.
    mains : float, optional
        Frequency of the mains in the recordings, 50 or 60 Hz, which models get removed whose authors removed it.
    say : callable
        Prints one line about what is left out.

    Raises
    ------
    ValueError
        If the windows have no such column, no window has a target, or there is only one class or group.
    """
    montage = largest_montage(paths, "pretrain", say)
    shards = WindowShards(montage.paths, columns=(), purpose="pretrain")
    keep = np.ones(len(shards), bool)
    if len(subjects):
        wanted = {_plain(subject) for subject in subjects}
        keep &= np.array([_plain(subject) in wanted for subject in shards.subjects])
    chosen = choose_target(shards, target, classes, keep)
    if chosen.missing:
        say(f"{chosen.missing} of {int(keep.sum())} windows have no {target} and are left out.")
    if chosen.numbers:
        say(f"The {len(chosen.classes)} values of {target} are taken as classes; CLASSES = None predicts numbers.")
    rows = chosen.rows
    common = dict(
        windows=_stacked(shards, rows), groups=_groups(shards, montage, group)[rows], sfreq=shards.sfreq,
        ch_names=tuple(shards.ch_names), data=shards.fact("data", "real"), event_related="event" in shards.column_names,
        subjects=shards.subjects[rows].astype(str), recorded=recorded_of(shards, rows), mains=mains,
    )  # fmt: skip
    one_out = "leave_one_group_out" if leave_one_out else ""
    if not chosen.classes:
        return DecodingTask(
            f"windows_{target}", "regression", target=chosen.values, strategy=one_out or "group_kfold", **common
        )  # fmt: skip
    return DecodingTask(
        f"windows_{target}", "classification", target=chosen.values, classes=chosen.classes,
        strategy=one_out or "stratified_group_kfold", **common,
    )  # fmt: skip


def _groups(shards: WindowShards, montage: Montage, group: str) -> np.ndarray:
    if group == "subject":
        return shards.subjects.astype(str)
    if group in shards.column_names:
        return np.array([as_text(value) for value in shards.column(group)])
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


def _plain(value: object) -> str:
    text = str(value)
    return str(int(text)) if text.isdecimal() else text
