"""Table of the recordings of a model: units, kind of recording, and behaviour.

The index of a unit in the table is the offset of its recording plus its index in the recording, so that units of
different recordings never share an embedding, even with equal ids. New recordings are added at the end: existing
indices do not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NO_TASK = "none"


@dataclass(frozen=True)
class Task:
    """A behaviour to decode.

    Attributes
    ----------
    name, unit : str
    mean, scale : tuple of float
        Mean and standard deviation of each dim in the training data, for standardisation.
    circular : bool
        True if the dims are cosine and sine of an angle.
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
    """Units and properties of one recording.

    Attributes
    ----------
    name : str
    unit_ids : tuple of str
    mean_counts : tuple of float
        Mean activity per bin of each unit in the observed bins of the training windows: the mean-rate model.
    kind : str
        ``"<species>/<modality>"``, and ``"/trace"`` for traces; each kind has its own tokenizer weights.
    task : str
        Name of the `Task`, or ``"none"``.
    snr : float
        See `nbkit.neuro.signals.spikes.reliability.recording_snr`.
    scales : tuple of float
        For traces such as dF/F, the standard deviation of each unit, by which they are standardised; empty otherwise.
    """

    name: str
    unit_ids: tuple[str, ...]
    mean_counts: tuple[float, ...]
    kind: str
    task: str = NO_TASK
    snr: float = 1.0
    scales: tuple[float, ...] = ()


class UnitTable:
    """Indices of all units, kinds and tasks.

    Parameters
    ----------
    recordings : sequence of RecordingUnits
    tasks : sequence of Task
    kinds : sequence of str, optional
        Kinds with their own tokenizer weights; by default those of the recordings.

    Raises
    ------
    ValueError
        If there is no recording, a name is not unique, or a recording has an unknown task.
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
                f"Got {len(names)} recordings; names used more than once: {', '.join(twice[:5]) or 'none'}. Give at "
                "least one recording, each file once, and each recording a unique name."
            )
        self.offsets, self.n_units = {}, 0
        for recording in self.recordings:
            self.offsets[recording.name] = self.n_units
            self.n_units += len(recording.unit_ids)
            if recording.task != NO_TASK and recording.task not in [task.name for task in self.tasks]:
                raise ValueError(
                    f"Recording {recording.name} has the unknown task {recording.task!r}; known tasks: "
                    f"{', '.join(task.name for task in self.tasks) or 'none'}. Add the task to the table, or use "
                    f"{NO_TASK!r}."
                )

    def task_id(self, name: str) -> int:
        """Return the number of a task, from 1; 0 for no task."""
        return 0 if name == NO_TASK else 1 + [task.name for task in self.tasks].index(name)

    def kind_id(self, kind: str) -> int:
        """Return the number of a kind, from 1; 0 for an unknown kind, which uses the shared tokenizer weights."""
        return 1 + self.kinds.index(kind) if kind in self.kinds else 0

    def find(self, name: str) -> RecordingUnits:
        """Return a recording by its name, or raise ValueError if the table does not have it."""
        if name not in self.offsets:
            raise ValueError(
                f"The model has no units of recording {name!r}; it has {len(self.offsets)} recordings: "
                f"{', '.join([*self.offsets][:8])}. Add it first (nbkit.neuro.neurofm.adapt.add_recordings)."
            )
        return self.recordings[[*self.offsets].index(name)]

    @property
    def most_dims(self) -> int:
        """Largest number of dims of a task; at least 1."""
        return max([task.dims for task in self.tasks], default=1)

    def with_recordings(self, more: Sequence[RecordingUnits]) -> UnitTable:
        """Return a table with more recordings at its end and the same tasks and kinds."""
        return UnitTable((*self.recordings, *more), self.tasks, self.kinds)

    def as_dict(self) -> dict[str, Any]:
        """Return the table as plain numbers, text, lists and dicts, for a checkpoint."""
        return {
            "recordings": [_plain(asdict(recording)) for recording in self.recordings],
            "tasks": [_plain(asdict(task)) for task in self.tasks],
            "kinds": list(self.kinds),
        }

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> UnitTable:
        """Build a table from the result of `as_dict`."""
        recordings = [RecordingUnits(**_tuples(row)) for row in held["recordings"]]
        return cls(recordings, [Task(**_tuples(row)) for row in held["tasks"]], held["kinds"])


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
