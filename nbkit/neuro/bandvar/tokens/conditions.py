"""What a window is of: class, subject and task, as numbers.

0 is "not said" in each of the three: what training did not know, and what guidance takes away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from nbkit.neuro.signals.recordings.eegbci import task_of_run

REST_OR_MOVEMENT = {"T0": "rest", "T1": "movement", "T2": "movement"}  # events of eegbci


@dataclass(frozen=True)
class Conditions:
    """The names that training knew.

    Parameters
    ----------
    classes, subjects, tasks : tuple of str
    """

    classes: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Sequence[str]]) -> Conditions:
        """Take the names of (class, subject, task) rows; empty ones are none."""
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return cls(*[tuple(sorted({name for name in column if name})) for column in columns])

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many of each."""
        return len(self.classes), len(self.subjects), len(self.tasks)

    def numbers(self, rows: Iterable[Sequence[str]]) -> Tensor:
        """Return rows of names as numbers, int64 of shape (rows, 3); an unknown name is 0."""
        known = (self.classes, self.subjects, self.tasks)
        table = [[names.index(n) + 1 if n in names else 0 for n, names in zip(row, known, strict=True)] for row in rows]
        return torch.tensor(table, dtype=torch.long).reshape(-1, 3)

    def asked(self, name: str, count: int, subject: str = "", task: str = "") -> Tensor:
        """Return the condition of ``count`` windows of one class, for generating.

        Raises
        ------
        ValueError
            For a class that training did not know.
        """
        if name and name not in self.classes:
            raise ValueError(f"No class {name!r}; this model knows {', '.join(self.classes) or 'none'}.")
        return self.numbers([(name, subject, task)]).repeat(count, 1)

    def description(self) -> dict[str, list[str]]:
        """Return the names as lists."""
        return {key: list(value) for key, value in asdict(self).items()}


def window_rows(dataset: object, class_of: Mapping[str, str] = REST_OR_MOVEMENT) -> list[tuple[str, str, str]]:
    """Return (class, subject, task) of each window of an `EEGFrequencyDataset`; "" where it is not known.

    Parameters
    ----------
    dataset : EEGFrequencyDataset
    class_of : mapping
        From an event's label to its class; other labels have none.
    """
    labels, subjects = dataset.column("label"), dataset.column("subject")
    runs, sources = dataset.column("run"), dataset.column("source")
    tasks = [task_of_run(run) if source == "eegbci" else "" for run, source in zip(runs, sources, strict=True)]
    return [
        (class_of.get(label, ""), subject, task) for label, subject, task in zip(labels, subjects, tasks, strict=True)
    ]
