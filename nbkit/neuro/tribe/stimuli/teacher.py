"""Teachers with a common interface, and the step of the loop that writes a segment file for a manifest row.

A row is a stretch of one video: dataset, video_id, path, tr_start, tr_end. A teacher predicts whole videos, because
loading its feature extractors costs more than running them. The predictions for the last video are kept for the next
rows.
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
    """Protocol of a teacher, which predicts the brain's response to a video.

    Attributes
    ----------
    name : str
        Description for the results; a synthetic teacher is marked as such.
    """

    name: str

    def watch(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return predictions (trs, 20484), fusion_l4 and fusion_l6 (trs, 1152) for the row's whole video, at 1 Hz."""
        ...


class StandInTeacher:
    """Synthetic teacher: a fixed map of synthetic features, or of a file's features.

    Parameters
    ----------
    settings : SyntheticSettings
        ``n_outputs`` is replaced by 20484, as in the real layout.
    extract : callable, optional
        Returns the features of a row that has a file (see `Extractor`).
    """

    name = STAND_IN_TEACHER

    def __init__(self, settings: SyntheticSettings, extract: Callable[[Mapping[str, Any]], Any] | None = None) -> None:
        self.settings = settings
        self._map = SyntheticTeacher(replace(settings, n_outputs=N_VERTICES))
        self._extract = extract

    def watch(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return predictions (trs, 20484), fusion_l4 and fusion_l6 (trs, 1152) for the row's stimulus, at 1 Hz.

        Raises
        ------
        ValueError
            If the row has a file and there is no extractor.
        """
        if not row["path"]:
            return self._map.predict(synthetic_stimulus(self._map.settings, int(row["index"])))
        if self._extract is None:
            raise ValueError(f"{row['key']}: the synthetic teacher needs features of this file; give it an extractor.")
        return self._map.predict(self._extract(row))


def open_teacher(
    name: str,
    settings: SyntheticSettings | None = None,
    extract: Callable[[Mapping[str, Any]], Any] | None = None,
    cache: str | Path | None = None,
) -> Teacher:
    """Return a teacher by name.

    Parameters
    ----------
    name : {"tribe_v2", "synthetic"}
    settings, extract
        For the synthetic one (see `StandInTeacher`).
    cache : str or Path, optional
        Folder in which TRIBE v2 caches extracted features.

    Returns
    -------
    teacher : Teacher

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name == "synthetic":
        return StandInTeacher(settings or SyntheticSettings.free(), extract)
    if name == "tribe_v2":
        from nbkit.neuro.tribe.stimuli.tribe_v2 import TribeV2Teacher

        return TribeV2Teacher.from_pretrained(cache or "tribe-cache")
    raise ValueError(f"Teacher {name!r} is unknown; it may be {' or '.join(TEACHERS)}.")


class SegmentMaker:
    """Write segment files, and keep the teacher's predictions for the last video.

    Parameters
    ----------
    teacher : Teacher
    folder : str or Path
        Where to write the files.
    settings : SyntheticSettings, optional
        Sets the length of synthetic stimuli.
    """

    def __init__(self, teacher: Teacher, folder: str | Path, settings: SyntheticSettings | None = None) -> None:
        self.teacher, self.folder, self.settings = teacher, Path(folder), settings
        self._last: tuple[tuple[str, str], dict[str, np.ndarray]] | None = None

    def __call__(self, row: Mapping[str, Any]) -> Path:
        """Write the segment of a row and return its path.

        Raises
        ------
        ValueError, FileNotFoundError
            If the file cannot be read, or the teacher's predictions are too short or not finite. The message has the
            row's key.
        """
        if row["tr_end"] == "":
            seconds = stimulus_seconds(row, self.settings)  # raises the error that the list met
            raise ValueError(f"{row['key']}: its file could not be read before and now has {seconds:g} s; run again.")
        video = (row["dataset"], row["video_id"])
        if self._last is None or self._last[0] != video:
            self._last = None  # free the last one first: a video takes 150 MB per hour
            self._last = (video, self.teacher.watch(row))
        said = self._last[1]
        start, end = int(row["tr_start"]), int(row["tr_end"])
        for key in _SAID:
            if len(said[key]) < end:
                raise ValueError(
                    f"{row['key']}: the teacher gave {len(said[key])} TRs of {key} and the segment ends at TR {end}; "
                    "keep its empty seconds (remove_empty_segments=False), or check the length of the file."
                )
        cut = {key: torch.from_numpy(np.ascontiguousarray(said[key][start:end])) for key in _SAID}
        return write_segment(self.folder, Segment(*video, start, end, **cut, teacher=self.teacher.name))
