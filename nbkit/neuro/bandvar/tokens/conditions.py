"""Conditions of a window: class, subject and task, as numbers.

In each of the three, 0 means "unspecified": names that training did not have, and conditions that classifier-free
guidance removes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from nbkit.neuro.signals.recordings.eegbci import task_of_run

REST_OR_MOVEMENT = {"T0": "rest", "T1": "movement", "T2": "movement"}  # event labels of eegbci


@dataclass(frozen=True)
class Conditions:
    """Names of the classes, subjects and tasks of the training windows.

    Parameters
    ----------
    classes, subjects, tasks : tuple of str
        Sorted names; the number of a name is its index plus 1.
    """

    classes: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Sequence[str]]) -> Conditions:
        """Collect the names of (class, subject, task) rows; empty names are left out."""
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return cls(*[tuple(sorted({name for name in column if name})) for column in columns])

    @property
    def counts(self) -> tuple[int, int, int]:
        """Number of classes, subjects and tasks."""
        return len(self.classes), len(self.subjects), len(self.tasks)

    def numbers(self, rows: Iterable[Sequence[str]]) -> Tensor:
        """Return rows of names as numbers, int64 of shape (rows, 3); unknown names are 0."""
        known = (self.classes, self.subjects, self.tasks)
        table = [[names.index(n) + 1 if n in names else 0 for n, names in zip(row, known, strict=True)] for row in rows]
        return torch.tensor(table, dtype=torch.long).reshape(-1, 3)

    def asked(self, name: str, count: int, subject: str = "", task: str = "") -> Tensor:
        """Return the conditions for generating ``count`` windows of one class, int64 of shape (count, 3).

        Parameters
        ----------
        name : str
            Class; "" leaves it unspecified.
        count : int
            Number of windows.
        subject, task : str
            Unknown or empty names are unspecified.

        Raises
        ------
        ValueError
            If training did not have the class.
        """
        if name and name not in self.classes:
            raise ValueError(
                f"Unknown class {name!r}; this model knows {', '.join(self.classes) or 'no class'}. Give one of these, "
                'or "" for no class.'
            )
        return self.numbers([(name, subject, task)]).repeat(count, 1)

    def description(self) -> dict[str, list[str]]:
        """Return the names as a dict of lists, for a checkpoint."""
        return {key: list(value) for key, value in asdict(self).items()}


def window_rows(
    dataset: object, class_of: Mapping[str, str] | None = None, target: str = "label"
) -> list[tuple[str, str, str]]:
    """Return (class, subject, task) of each window of an `EEGFrequencyDataset`, with "" where unknown.

    Parameters
    ----------
    dataset : EEGFrequencyDataset
    class_of : mapping, optional
        From an entry of the target to its class; windows with other entries have no class. By default the events of
        eegbci are rest or movement, and all other entries are the classes themselves.
    target : str
        Column of the windows that tells the class.

    Raises
    ------
    ValueError
        If no window has an entry in a target other than the label.
    """
    entries, subjects = dataset.column(target), dataset.column("subject")
    runs, sources = dataset.column("run"), dataset.column("source")
    if target != "label" and not any(entries):
        raise ValueError(f"No window has an entry in the column {target!r}. Give a column of your tables as TARGET.")
    tasks = [task_of_run(run) if source == "eegbci" else "" for run, source in zip(runs, sources, strict=True)]
    if class_of is not None:
        classes = [class_of.get(entry, "") for entry in entries]
    else:
        events = ["eegbci" == source and target == "label" for source in sources]
        classes = [
            REST_OR_MOVEMENT.get(entry, "") if event else entry for entry, event in zip(entries, events, strict=True)
        ]
    return list(zip(classes, subjects, tasks, strict=True))
