"""Npz files with cumulative bands, checked without reading their windows."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

KEYS = ("signal", "cumulative_bands", "bands", "sfreq")


class NpzHeader:
    """Shapes, bands and sampling frequency of an npz file, checked without reading its windows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                keys = {Path(name).stem for name in archive.namelist()}
                missing = [key for key in KEYS if key not in keys]
                if missing:
                    raise ValueError(
                        f"{path} lacks {', '.join(missing)}; a sample needs {', '.join(KEYS)} and this one has "
                        f"{', '.join(sorted(keys)) or 'nothing'}. Create it again with cumulative_frequency_levels."
                    )
                levels, signal = _member_shape(archive, "cumulative_bands"), _member_shape(archive, "signal")
            with np.load(path) as file:
                bands, self.sfreq = np.asarray(file["bands"], float), float(file["sfreq"])
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            size = path.stat().st_size if path.exists() else 0
            raise ValueError(
                f"{path} cannot be read as npz ({error}); it has {size} bytes on disk and was not changed. "
                "Delete it and create it again."
            ) from error
        if len(levels) not in (3, 4):
            raise ValueError(
                f"{path}: cumulative_bands has shape {levels}; it must be (bands, channels, time), or (windows, bands, "
                "channels, time) for a whole recording. Create the file again."
            )
        self.windows = levels[0] if len(levels) == 4 else None
        self.shape = levels[-3:]
        wanted = (*levels[:-3], *self.shape[1:])
        if signal != wanted:
            raise ValueError(
                f"{path}: signal has shape {signal}; with cumulative_bands of shape {levels} it must be {wanted}. "
                "Create the file again."
            )
        if bands.shape != (self.shape[0], 2):
            raise ValueError(
                f"{path}: bands has shape {bands.shape}, but cumulative_bands has {self.shape[0]} bands; give one "
                "(l_freq, h_freq) in Hz for each band."
            )
        self.bands = tuple((round(float(low), 4), round(float(high), 4)) for low, high in bands)

    def check_like(self, first: NpzHeader) -> None:
        """Raise ValueError if windows of this file and of the first file cannot be in the same batch."""
        for what, mine, its in (
            ("windows of (bands, channels, time)", self.shape, first.shape),
            ("bands in Hz", self.bands, first.bands),
            ("sfreq in Hz", self.sfreq, first.sfreq),
        ):
            if mine != its:
                raise ValueError(
                    f"{self.path} has {what} {mine}, {first.path.name} has {its}; all files of a data set must agree. "
                    "Create them again with the same settings, or keep them in separate folders."
                )


def npz_files(source: str | Path | Sequence[str | Path], split: str | None) -> tuple[list[Path], bool]:
    """Return the npz files, and whether the whole root was used because the split has no npz file."""
    if not isinstance(source, (str, Path)):
        files = [Path(path) for path in source]
        absent = [path for path in files if not path.is_file()]
        if not files:
            raise FileNotFoundError("No npz files were given; create windows first (notebook 10_eeg_windows).")
        if absent:
            raise FileNotFoundError(
                f"{absent[0]} does not exist ({len(absent)} of {len(files)} npz files are missing). Check the paths, "
                "or create the windows again."
            )
        return files, False
    root = Path(source)
    folder, fallback = root, False
    if split is not None:
        folder, fallback = (root / split, False) if any((root / split).glob("*.npz")) else (root, True)
    files = sorted(folder.rglob("*.npz"))
    if not files:
        state = "has no npz file in it" if root.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"{root} {state}; a data set has <root>/train/*.npz and <root>/val/*.npz. "
            "Create a synthetic one with: python -m nbkit.neuro.bandvar.make_dummy ROOT"
        )
    return files, fallback


def names_of(path: Path) -> dict[str, Any]:
    """Return the path, subject and run of a recording; the file name stands for a missing run."""
    with np.load(path) as file:
        subject = str(file["subject"]) if "subject" in file.files else "unknown"
        run = str(file["run"]) if "run" in file.files else path.stem
    return {"path": path, "subject": subject, "run": run}


def _member_shape(archive: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    with archive.open(f"{key}.npy") as member:
        return _read_header(member)[0]


def _read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


def open_member(path: Path, key: str) -> np.ndarray:
    """Return an array of an npz file: memory-mapped if it is uncompressed, otherwise read."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        with np.load(path) as file:
            return file[key]
    with path.open("rb") as file:
        # Read the lengths of the local header: those in the central directory may differ.
        file.seek(info.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2")
        file.seek(info.header_offset + 30 + int(name) + int(extra))
        shape, fortran, dtype = _read_header(file)
        return np.memmap(path, dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran else "C")
