"""Teachers with a common interface, and the step of the loop that writes a segment file for a manifest row.

A row is a chunk of one video: dataset, video_id, path, tr_start, tr_end. A teacher that can predict a chunk alone does
only that, so a kill costs one chunk. One that must watch a whole video (TRIBE v2) leaves its predictions on the disk,
where the next row, and the next session on this disk, find them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from nbkit.ground.files import own_files, write_atomically
from nbkit.neuro.signals.imaging.atlas import schaefer
from nbkit.neuro.signals.imaging.surfaces import pool_vertices
from nbkit.neuro.tribe.stimuli.environment import REQUIREMENTS, RemoteTeacher, make_environment
from nbkit.neuro.tribe.stimuli.segments import KEPT, N_VERTICES, TEACHER_TR, Segment, write_segment
from nbkit.neuro.tribe.stimuli.stimuli import stimulus_seconds
from nbkit.neuro.tribe.stimuli.synthetic import (
    STAND_IN_TEACHER,
    SyntheticSettings,
    SyntheticTeacher,
    synthetic_stimulus,
)

TEACHERS = ("tribe_v2", "synthetic", "files")
_SAID = ("predictions", "fusion_l4", "fusion_l6")
Said = dict[str, np.ndarray]


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


class PartTeacher(Protocol):
    """Protocol of a teacher that predicts a chunk of a video without the rest of it."""

    name: str

    def watch_part(self, row: Mapping[str, Any], start: int, end: int) -> dict[str, np.ndarray]:
        """Return the same for the TRs ``start`` to ``end`` (exclusive) alone; fewer if the video ends before."""
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
        self._last: tuple[str, Mapping[str, Any]] | None = None

    def watch(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return predictions (trs, 20484), fusion_l4 and fusion_l6 (trs, 1152) for the row's stimulus, at 1 Hz.

        Raises
        ------
        ValueError
            If the row has a file and there is no extractor.
        """
        return self._map.predict(self._features(row))

    def watch_part(self, row: Mapping[str, Any], start: int, end: int) -> dict[str, np.ndarray]:
        """Return the same for the TRs ``start`` to ``end`` (exclusive) alone."""
        return self._map.predict(self._features(row), start, end)

    def _features(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        if not row["path"]:
            return synthetic_stimulus(self._map.settings, int(row["index"]))
        if self._extract is None:
            raise ValueError(f"{row['key']}: the synthetic teacher needs features of this file; give it an extractor.")
        if self._last is None or self._last[0] != row["path"]:
            self._last = (row["path"], self._extract(row))
        return self._last[1]


def open_teacher(
    name: str,
    settings: SyntheticSettings | None = None,
    extract: Callable[[Mapping[str, Any]], Any] | None = None,
    cache: str | Path | None = None,
    environment: str | Path | None = None,
    token: str | None = None,
    requirements: Sequence[str] = REQUIREMENTS,
) -> Teacher | PartTeacher:
    """Return a teacher by name.

    Parameters
    ----------
    name : {"tribe_v2", "synthetic", "files"}
    settings, extract
        For the synthetic one (see `StandInTeacher`).
    cache : str or Path, optional
        Folder in which TRIBE v2 caches extracted features, or of existing predictions for "files".
    environment : str or Path, optional
        Folder of TRIBE v2's own Python, made there if it is missing (see `make_environment`); by default this Python.
    token : str, optional
        Of the Hub, for TRIBE v2 in an environment.
    requirements : sequence of str
        What the environment holds.

    Returns
    -------
    teacher : Teacher or PartTeacher

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name == "synthetic":
        return StandInTeacher(settings or SyntheticSettings.free(), extract)
    if name == "tribe_v2" and environment is not None:
        return RemoteTeacher(make_environment(environment, requirements), cache or "tribe-cache", token)
    if name == "tribe_v2":
        from nbkit.neuro.tribe.stimuli.tribe_v2 import TribeV2Teacher

        return TribeV2Teacher.from_pretrained(cache or "tribe-cache")
    if name == "files":
        from nbkit.neuro.tribe.stimuli.predictions import FileTeacher

        return FileTeacher(cache or "predictions")
    raise ValueError(f"Teacher {name!r} is unknown; it may be {' or '.join(TEACHERS)}.")


class SegmentMaker:
    """Write segment files.

    Parameters
    ----------
    teacher : Teacher or PartTeacher
    folder : str or Path
        Where to write the files, and the predictions for a whole video until its last segment is written.
    settings : SyntheticSettings, optional
        Sets the length of synthetic stimuli.
    convert : callable, optional
        Maps predictions (trs, 20484) to the outputs that are kept; by default all vertices.
    """

    def __init__(
        self,
        teacher: Teacher | PartTeacher,
        folder: str | Path,
        settings: SyntheticSettings | None = None,
        convert: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.teacher, self.folder, self.settings, self.convert = teacher, Path(folder), settings, convert
        self._last: tuple[tuple[str, str], Said] | None = None
        self.seconds = (0.0, 0.0)  # of stimulus, and of this machine, so far

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
        start, end, began = int(row["tr_start"]), int(row["tr_end"]), time.perf_counter()
        if hasattr(self.teacher, "watch_part"):
            said = self.teacher.watch_part(row, start, end)
        else:
            said = {key: values[start:end] for key, values in self._whole(row).items()}
        for key, values in said.items():
            if len(values) < end - start:
                raise ValueError(
                    f"{row['key']}: the teacher gave {start + len(values)} TRs of {key} and the segment ends at TR "
                    f"{end}; keep its empty seconds (remove_empty_segments=False), or check the length of the file."
                )
        if self.convert is not None:
            said = {**said, "predictions": self.convert(said["predictions"])}
        cut = {key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in said.items()}
        video = (row["dataset"], row["video_id"])
        path = write_segment(self.folder, Segment(*video, start, end, **cut, teacher=self.teacher.name))
        shown, worked = self.seconds
        self.seconds = (shown + (end - start) * TEACHER_TR, worked + time.perf_counter() - began)
        return path

    def _whole(self, row: Mapping[str, Any]) -> Said:
        """Return the predictions for a row's whole video: those in memory or on the disk, else the teacher's."""
        video = (row["dataset"], row["video_id"])
        if self._last is not None and self._last[0] == video:
            return self._last[1]
        self._last = None  # free the last one first: a video takes 150 MB per hour
        spool = self.folder / f"{video[0]}_{video[1]}.watched"
        if spool.is_file():
            said = {key: value.numpy() for key, value in torch.load(spool, weights_only=True).items()}
        else:
            said = dict(self.teacher.watch(row))
            for old in own_files(self.folder, re.compile(r".+_.+\.watched")):
                old.unlink()
            kept = {key: torch.from_numpy(np.ascontiguousarray(said[key])) for key in _SAID}
            write_atomically(spool, lambda file: torch.save(kept, file))
        self._last = (video, said)
        return said


def keep_on(kept: str, atlas_folder: str | Path | None = None) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the map from fsaverage5 to what is kept of a teacher's predictions, for `SegmentMaker`.

    Parameters
    ----------
    kept : str
        A name in `KEPT`: a surface, or Schaefer's parcels, whose values are means over vertices.
    atlas_folder : str or Path, optional
        Folder of the atlas files; without one, they are fetched.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if kept not in KEPT:
        raise ValueError(f"Predictions cannot be kept on {kept!r}; it may be {', '.join(KEPT)}.")
    if kept == "fsaverage5":
        return None
    if kept.startswith("fsaverage"):
        narrow = partial(pool_vertices, coarse=kept)
    else:
        narrow = schaefer(KEPT[kept], atlas_folder).means
    # imported predictions may be there already
    return lambda values: values if values.shape[1] == KEPT[kept] else narrow(values).astype(np.float32)


def segment_map(segment: Segment, tr: int, atlas_folder: str | Path | None = None) -> np.ndarray:
    """Return a segment's prediction at one TR as a map on fsaverage; parcels are spread over their vertices."""
    values = segment.predictions[tr].float().numpy()
    kept = next(name for name, count in KEPT.items() if count == len(values))
    return schaefer(len(values), atlas_folder).spread(values) if kept.startswith("schaefer") else values
