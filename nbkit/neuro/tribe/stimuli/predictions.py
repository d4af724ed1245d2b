"""Existing predictions of a teacher, imported from npy or HDF5 files: one file for each video.

A file ``<video_id>.npy`` holds an array (seconds, outputs); ``<video_id>.h5`` holds it as its data set ``predictions``,
or as its only one. Row t is the BOLD response at t + 5 s, at 1 Hz, as TRIBE v2 gives it. Files are read chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.tribe.stimuli.segments import KEPT

SUFFIXES = (".npy", ".h5", ".hdf5")


class FileTeacher:
    """Teacher that reads its predictions from files; they have no fusion features.

    Parameters
    ----------
    folder : str or Path

    Raises
    ------
    FileNotFoundError
        If the folder holds no file of predictions.
    """

    name = "imported predictions"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files = {path.stem: path for path in sorted(self.folder.glob("*")) if path.suffix.lower() in SUFFIXES}
        if not self._files:
            raise FileNotFoundError(
                f"{folder} holds no file of predictions ({', '.join(SUFFIXES)}); give a folder with <video_id>.npy."
            )

    def watch_part(self, row: Mapping[str, Any], start: int, end: int) -> dict[str, np.ndarray]:
        """Return the predictions (trs, outputs) for the TRs ``start`` to ``end`` (exclusive) of the row's video.

        Raises
        ------
        FileNotFoundError
            If there is no file for the video.
        ValueError
            If the file is damaged or its array has another shape. The message names the file.
        """
        path = self._files.get(str(row["video_id"]))
        if path is None:
            raise FileNotFoundError(
                f"{row['key']}: {self.folder} holds no predictions for {row['video_id']!r}; it has those of "
                f"{', '.join(list(self._files)[:4])} ... Name the file <video_id>.npy or .h5."
            )
        try:
            values = self._rows(path, start, end)
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise ValueError(f"{row['key']}: {path.name} cannot be read as predictions ({error}).") from error
        return {"predictions": values}

    @staticmethod
    def _rows(path: Path, start: int, end: int) -> np.ndarray:
        if path.suffix.lower() == ".npy":
            whole = np.load(path, mmap_mode="r", allow_pickle=False)
            return _checked(whole.shape, np.array(whole[start:end], np.float32))
        import h5py

        with h5py.File(path, "r") as file:
            names = [name for name, value in file.items() if isinstance(value, h5py.Dataset)]
            name = "predictions" if "predictions" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise ValueError(f"it has the data sets {', '.join(names) or 'none'}; name one 'predictions'")
            return _checked(file[name].shape, np.array(file[name][start:end], np.float32))


def _checked(shape: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    if len(shape) != 2 or shape[1] not in KEPT.values():
        known = ", ".join(map(str, KEPT.values()))
        raise ValueError(f"an array of shape {shape}; (seconds, outputs) with {known} outputs is needed")
    return rows
