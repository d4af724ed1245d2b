"""What a model knows of its recordings: their units, what kind of recording each is, and which behaviour it has.

A unit's place in the table is its recording's offset plus its own place there, so units of two recordings never share
an embedding, whatever their ids are. A table only grows at its end: places that were given stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NO_TASK = "none"


@dataclass(frozen=True)
class Task:
    """A behaviour that is decoded.

    Attributes
    ----------
    name, unit : str
    mean, scale : tuple of float
        What each dim is reduced by and divided by before it is learned, from training data.
    circular : bool
        The dims are cosine and sine of an angle.
    """

    name: str
    unit: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    circular: bool = False

    @property
    def dims(self) -> int:
        return len(self.mean)


@dataclass(frozen=True)
class RecordingUnits:
    """One recording as the model sees it.

    Attributes
    ----------
    name : str
    unit_ids : tuple of str
    mean_counts : tuple of float
        Spikes a bin of each unit in the training windows: the mean-rate model.
    kind : str
        ``"<species>/<modality>"``, which has its own tokenizer.
    task : str
        Name of its `Task`, or ``"none"``.
    snr : float
        See `nbkit.neuro.signals.spikes.recording.recording_snr`.
    """

    name: str
    unit_ids: tuple[str, ...]
    mean_counts: tuple[float, ...]
    kind: str
    task: str = NO_TASK
    snr: float = 1.0


class UnitTable:
    """Places of all units, kinds and tasks.

    Parameters
    ----------
    recordings : sequence of RecordingUnits
    tasks : sequence of Task
    kinds : sequence of str, optional
        Those with an own tokenizer; those of the recordings where not given.

    Raises
    ------
    ValueError
        If a recording comes twice, or names a task that is not there.
    """

    def __init__(
        self, recordings: Sequence[RecordingUnits], tasks: Iterable[Task], kinds: Iterable[str] | None = None
    ) -> None:
        self.recordings, self.tasks = tuple(recordings), tuple(tasks)
        self.kinds = tuple(dict.fromkeys(r.kind for r in self.recordings) if kinds is None else kinds)
        names = [recording.name for recording in self.recordings]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise ValueError(
                f"{len(names)} recordings, {', '.join(twice[:5]) or 'none at all'} more than once: units are told "
                "apart by their recording's name. Give each file of windows once, and recordings names of their own."
            )
        self.offsets, self.n_units = {}, 0
        for recording in self.recordings:
            self.offsets[recording.name] = self.n_units
            self.n_units += len(recording.unit_ids)
            if recording.task != NO_TASK and recording.task not in [task.name for task in self.tasks]:
                raise ValueError(
                    f"Recording {recording.name} has the task {recording.task!r}, which is none of "
                    f"{', '.join(task.name for task in self.tasks) or 'no task at all'}."
                )

    def task_id(self, name: str) -> int:
        """Return a task's number: 0 for none, from 1 on the tasks."""
        return 0 if name == NO_TASK else 1 + [task.name for task in self.tasks].index(name)

    def kind_id(self, kind: str) -> int:
        """Return a kind's number: 0 for one that has no tokenizer of its own and takes the shared one."""
        return 1 + self.kinds.index(kind) if kind in self.kinds else 0

    def find(self, name: str) -> RecordingUnits:
        """Return a recording by its name."""
        if name not in self.offsets:
            raise ValueError(
                f"The model has no units of recording {name!r}; it knows {', '.join([*self.offsets][:8])} "
                f"({len(self.offsets)}). Add it first (nbkit.neuro.neurofm.adapt.add_recordings)."
            )
        return self.recordings[[*self.offsets].index(name)]

    @property
    def most_dims(self) -> int:
        """Dims of the widest task; at least 1."""
        return max([task.dims for task in self.tasks], default=1)

    def with_recordings(self, more: Sequence[RecordingUnits]) -> UnitTable:
        """Return a table that has these recordings at its end; tasks and tokenizers stay as they are."""
        return UnitTable((*self.recordings, *more), self.tasks, self.kinds)

    def as_dict(self) -> dict[str, Any]:
        """Return the table in plain numbers and text, as a checkpoint holds it."""
        return {
            "recordings": [_plain(asdict(recording)) for recording in self.recordings],
            "tasks": [_plain(asdict(task)) for task in self.tasks],
            "kinds": list(self.kinds),
        }

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> UnitTable:
        """Build the table that `as_dict` wrote."""
        recordings = [RecordingUnits(**_tuples(row)) for row in held["recordings"]]
        return cls(recordings, [Task(**_tuples(row)) for row in held["tasks"]], held["kinds"])


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
