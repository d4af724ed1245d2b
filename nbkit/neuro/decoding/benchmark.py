"""Decoding on several data sets: each (data set, model, mode, fold) is one item, with people held out in all of them.

A data set is the windows of a store (10_eeg_windows), or a task that this package knows. Each has its own folds, its
own reference and its own corrections; their scores stand in one table and are never averaged over data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nbkit.ground.fields import checked
from nbkit.neuro.decoding.compare import CompareSettings, fold_rows
from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.decoding.tasks import load_task


@checked
@dataclass(frozen=True)
class DataSet:
    """Where the windows of a data set come from, and what is decoded.

    Parameters
    ----------
    task : str
        See `tasks.load_task`.
    store : str, optional
        Store with the windows, for the task windows; None is the session's own.
    target, group : str
        Columns of the windows.
    classes : sequence of str
        Classes to use; () for all.
    subjects : sequence
        Subjects to use; () for all.
    folder : str, optional
        Root of the cueing data set.
    mains : float, optional
        Frequency of the mains in the recordings, in Hz, for models whose authors removed it.
    strategy : str
        Of its outer folds, see `outer_folds`; "" is the task's own.
    """

    task: str = "windows"
    store: str | None = None
    target: str = "label"
    group: str = "subject"
    classes: Sequence[str] | None = ()
    subjects: Sequence[int | str] = ()
    folder: str | None = None
    mains: float | None = None
    strategy: str = ""


def data_sets(given: Mapping[str, Mapping[str, Any] | str], usual: DataSet) -> dict[str, DataSet]:
    """Return data sets by name from a notebook's parameter; without any, the usual one alone, under the name "".

    Parameters
    ----------
    given : mapping of str to mapping or str
        Fields of `DataSet` that differ from the usual one; a text is the store.
    usual : DataSet

    Raises
    ------
    ValueError
        If a field is unknown.
    """
    known = [field.name for field in fields(DataSet)]
    found = {}
    for name, said in given.items():
        said = {"store": said} if isinstance(said, str) else dict(said)
        said = {"task": "windows", **said} if "store" in said else said
        wrong = sorted(set(said) - set(known))
        if wrong:
            raise ValueError(f"The data set {name!r} has no {', '.join(wrong)}; it may have {', '.join(known)}.")
        found[name] = replace(usual, **said)
    return found or {"": usual}


def load_tasks(
    sets: Mapping[str, DataSet],
    windows: Callable[[str | None], Sequence[Path]],
    scratch: str | Path,
    leave_one_out: bool = False,
) -> dict[str, DecodingTask]:
    """Load every data set and return the tasks by name.

    Parameters
    ----------
    sets : mapping of str to DataSet
        See `data_sets`.
    windows : callable
        Returns the outputs of 10_eeg_windows in a store; None is the session's own.
    scratch : path
        Where to write shards.
    leave_one_out : bool
        One fold per group.
    """
    tasks = {}
    for name, of in sets.items():
        paths = windows(of.store) if of.task == "windows" else ()
        task = load_task(
            of.task, of.folder, of.subjects, Path(scratch, name or "data"), windows=paths, leave_one_out=leave_one_out,
            target=of.target, group=of.group, classes=of.classes, mains=of.mains,
        )  # fmt: skip
        task = replace(task, name=name or task.name, strategy=of.strategy or task.strategy)
        tasks[task.name] = task
    return tasks


def benchmark_rows(
    tasks: Mapping[str, DecodingTask],
    settings: CompareSettings,
    own: Mapping[str, Mapping[str, FoundationModel]] | None = None,
) -> list[dict[str, str]]:
    """Return a manifest row for each data set, model, mode and fold, quickest modes first within a data set.

    Parameters
    ----------
    tasks : mapping of str to DecodingTask
    settings : CompareSettings
    own : mapping of str to mapping of str to FoundationModel, optional
        Models that were pretrained with nbkit, for each task.
    """
    return [row for name, task in tasks.items() for row in fold_rows(task, settings, (own or {}).get(name))]
