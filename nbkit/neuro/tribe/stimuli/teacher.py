"""Teachers behind one interface, and the loop's one step: a row of the manifest becomes a segment file.

A row names a stretch of one video: dataset, video_id, path, tr_start, tr_end. A teacher answers for whole videos, since
loading its feature extractors costs more than running them; what it said of the last one is kept for the rows that
follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from nbkit.neuro.tribe.stimuli.segments import N_VERTICES, Segment, write_segment
from nbkit.neuro.tribe.stimuli.stimuli import stimulus_seconds
from nbkit.neuro.tribe.stimuli.synthetic import (
    STAND_IN_TEACHER,
    SyntheticSettings,
    SyntheticTeacher,
    synthetic_stimulus,
)

TEACHERS = ("tribe_v2", "synthetic")
_SAID = ("predictions", "fusion_l4", "fusion_l6")


class Teacher(Protocol):
    """Say what a brain does while a video is shown.

    Attributes
    ----------
    name : str
        What it is, for the results; what stands in says so.
    """

    name: str

    def watch(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return predictions (trs, 20484), fusion_l4 and fusion_l6 (trs, 1152) of the row's whole video, at 1 Hz."""
        ...


class StandInTeacher:
    """Watch as the synthetic teacher: a fixed map of planted features, or of what backbones see of a file.

    Parameters
    ----------
    settings : SyntheticSettings
        ``n_outputs`` is taken as 20484, the real layout.
    extract : callable, optional
        Gives the features of a row that has a file (see `Extractor`).
    """

    name = STAND_IN_TEACHER

    def __init__(self, settings: SyntheticSettings, extract: Callable[[Mapping[str, Any]], Any] | None = None) -> None:
        self.settings = settings
        self._map = SyntheticTeacher(replace(settings, n_outputs=N_VERTICES))
        self._extract = extract

    def watch(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Teacher`."""
        if not row["path"]:
            return self._map.predict(synthetic_stimulus(self._map.settings, int(row["index"])))
        if self._extract is None:
            raise ValueError(f"{row['key']}: the synthetic teacher sees features, not files; give it an extractor.")
        return self._map.predict(self._extract(row))


def open_teacher(
    name: str,
    settings: SyntheticSettings | None = None,
    extract: Callable[[Mapping[str, Any]], Any] | None = None,
    cache: str | Path | None = None,
) -> Teacher:
    """Return a teacher by its name.

    Parameters
    ----------
    name : {"tribe_v2", "synthetic"}
    settings, extract
        For the synthetic one (see `StandInTeacher`).
    cache : path, optional
        Where TRIBE v2 keeps the features that it extracts.

    Raises
    ------
    ValueError
        For another name.
    """
    if name == "synthetic":
        return StandInTeacher(settings or SyntheticSettings.free(), extract)
    if name == "tribe_v2":
        from nbkit.neuro.tribe.stimuli.tribe_v2 import TribeV2Teacher

        return TribeV2Teacher.from_pretrained(cache or "tribe-cache")
    raise ValueError(f"teacher {name!r} is unknown; it may be {' or '.join(TEACHERS)}.")


class SegmentMaker:
    """Make segment files, with what the teacher said of the last video at hand.

    Parameters
    ----------
    teacher : Teacher
    folder : path
        Where the files are written.
    settings : SyntheticSettings, optional
        Tells how long made-up stimuli are.
    """

    def __init__(self, teacher: Teacher, folder: str | Path, settings: SyntheticSettings | None = None) -> None:
        self.teacher, self.folder, self.settings = teacher, Path(folder), settings
        self._last: tuple[tuple[str, str], dict[str, np.ndarray]] | None = None

    def __call__(self, row: Mapping[str, Any]) -> Path:
        """Write the segment of a row and give its path.

        Raises
        ------
        ValueError, FileNotFoundError
            With the row's key: a file that cannot be read, or a teacher that says too little or no numbers.
        """
        if row["tr_end"] == "":
            seconds = stimulus_seconds(row, self.settings)  # raises again what the list met
            raise ValueError(f"{row['key']}: its file could not be read before and has {seconds:g} s now; run again.")
        video = (row["dataset"], row["video_id"])
        if self._last is None or self._last[0] != video:
            self._last = None  # two videos of 150 MB an hour are one too many
            self._last = (video, self.teacher.watch(row))
        said = self._last[1]
        start, end = int(row["tr_start"]), int(row["tr_end"])
        for key in _SAID:
            if len(said[key]) < end:
                raise ValueError(
                    f"{row['key']}: the teacher gave {len(said[key])} TRs of {key} and the segment ends at TR {end}; "
                    "its empty seconds must be kept (remove_empty_segments=False), or the file is shorter than it says."
                )
        cut = {key: torch.from_numpy(np.ascontiguousarray(said[key][start:end])) for key in _SAID}
        return write_segment(self.folder, Segment(*video, start, end, **cut, teacher=self.teacher.name))
