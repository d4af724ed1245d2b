"""Cumulative bands from npz files.

Two layouts, told apart by their shape: the seed's, one window a file in ``<root>/{train,val}``, and a recording's, all
its windows in one file with subject and run beside them. Files are checked by their headers before the first step.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nbkit.neuro.signals.splits import split_recordings

KEYS = ("signal", "cumulative_bands", "bands", "sfreq")
_SCALE_WINDOWS = 256  # enough for an RMS, and the same ones every time


class EEGFrequencyDataset(Dataset):
    """Windows of cumulative bands, one Tensor of shape (bands, channels, time) each.

    Parameters
    ----------
    source : path or sequence of path
        A folder, or npz files. Uncompressed files are mapped, not read; compressed ones are held in memory.
    split : str, optional
        The folder's sub-folder (train or val). Where there is none, all npz files of the folder are taken, and
        ``fallback`` is true.
    limit : int, optional
        Keeps the first so many windows.

    Raises
    ------
    FileNotFoundError
        If there is no folder or no npz file.
    ValueError
        If a file is damaged, lacks a key, or differs in shape, bands or sampling frequency from the first.
    """

    def __init__(
        self, source: str | Path | Sequence[str | Path], split: str | None = None, limit: int | None = None
    ) -> None:
        self.paths, self.fallback = _npz_files(source, split)
        if limit is not None and limit < 1:
            raise ValueError(f"{limit=} windows is none; give 1 or more, or leave it out for all.")
        first = _Header(self.paths[0])
        self.bands, self.sfreq = first.bands, first.sfreq
        self._places: list[tuple[int, int | None]] = []  # (file, window in it)
        for number, path in enumerate(self.paths):
            header = first if number == 0 else _Header(path)
            header.check_like(first)
            inside = [None] if header.windows is None else range(header.windows)
            self._places.extend((number, window) for window in inside)
            if limit is not None and len(self._places) >= limit:
                break
        self._places = self._places[:limit]
        self._shape = first.shape
        self._open: dict[int, np.ndarray] = {}

    @property
    def input_shape(self) -> tuple[int, int]:
        """(channels, time) of a window."""
        return self._shape[1:]

    @property
    def num_stages(self) -> int:
        """Number of bands."""
        return self._shape[0]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> torch.Tensor:
        number, window = self._places[index]
        if number not in self._open:
            self._open[number] = _open_member(self.paths[number], "cumulative_bands")
        levels = self._open[number]
        return torch.from_numpy(np.array(levels if window is None else levels[window], dtype=np.float32))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # a worker maps the files itself

    def column(self, name: str) -> list[str]:
        """Return a text stored with each window, such as ``label``, ``subject`` or ``run``; "" where there is none."""
        stored: dict[int, np.ndarray] = {}
        for number in sorted({number for number, _ in self._places}):
            with np.load(self.paths[number]) as file:
                stored[number] = file[name] if name in file.files else np.array("")
        return [
            str(stored[number] if stored[number].ndim == 0 else stored[number][window or 0])
            for number, window in self._places
        ]

    def stack(self, limit: int | None = None) -> np.ndarray:
        """Return windows as one array of shape (windows, bands, channels, time), evenly spaced where limited."""
        count = len(self) if limit is None else min(limit, len(self))
        return np.stack([self[int(i)].numpy() for i in np.linspace(0, len(self) - 1, count).round()])


class BandData(lightning.LightningDataModule):
    """Training and validation windows, split so that no run is on both sides.

    Parameters
    ----------
    source : path or sequence of path
        A folder in the seed's layout (its train/ and val/ are the split), or the npz files of recordings, or a folder
        of those: split by subject where there are several, by run where there is one.
    batch_size, num_workers : int
        Of the loaders.
    val_fraction, seed : float, int
        Of the split; ``seed`` also orders a plain loader's training windows.
    limit_train, limit_val : int, optional
        Keeps the first so many windows.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        batch_size: int = 8,
        *,
        val_fraction: float = 0.2,
        seed: int = 2025,
        limit_train: int | None = None,
        limit_val: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.batch_size, self.num_workers = source, batch_size, num_workers
        self.val_fraction, self.seed = val_fraction, seed
        self.limit_train, self.limit_val = limit_train, limit_val
        self._sets: tuple[EEGFrequencyDataset, EEGFrequencyDataset] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the files; a second call does nothing."""
        if self._sets is not None:
            return
        folder = Path(self.source) if isinstance(self.source, (str, Path)) else None
        if folder is not None and (folder / "train").is_dir():
            train = EEGFrequencyDataset(folder, "train", self.limit_train)
            val = EEGFrequencyDataset(folder, "val", self.limit_val)
        else:
            # By name, so that the order does not depend on where a session put the files.
            rows = [_names(path) for path in sorted(_npz_files(self.source, None)[0], key=lambda p: (p.name, str(p)))]
            train_rows, val_rows = split_recordings(rows, self.val_fraction, self.seed)
            train = EEGFrequencyDataset([r["path"] for r in train_rows], limit=self.limit_train)
            val = EEGFrequencyDataset([r["path"] for r in val_rows], limit=self.limit_val)
        if (val.num_stages, *val.input_shape) != (train.num_stages, *train.input_shape):
            raise ValueError(
                f"Validation windows are (bands, channels, time) = {(val.num_stages, *val.input_shape)}, training "
                f"windows {(train.num_stages, *train.input_shape)}; they must be the same."
            )
        self._sets = train, val

    @property
    def train_dataset(self) -> EEGFrequencyDataset:
        self.setup()
        return self._sets[0]

    @property
    def val_dataset(self) -> EEGFrequencyDataset:
        self.setup()
        return self._sets[1]

    @property
    def channels(self) -> int:
        return self.train_dataset.input_shape[0]

    @property
    def time_steps(self) -> int:
        return self.train_dataset.input_shape[1]

    @property
    def bands(self) -> tuple[tuple[float, float], ...]:
        """Edges in Hz."""
        return self.train_dataset.bands

    @property
    def sfreq(self) -> float:
        """Samples a second, in Hz."""
        return self.train_dataset.sfreq

    @property
    def scale(self) -> tuple[float, ...]:
        """Root mean square of each band in the training windows, in the data's unit (uV)."""
        levels = self.train_dataset.stack(_SCALE_WINDOWS).astype(np.float64)
        increments = np.diff(levels, axis=1, prepend=0.0)
        rms = np.sqrt((increments**2).mean(axis=(0, 2, 3)))
        if not (np.isfinite(rms) & (rms > 0)).all():
            raise ValueError(
                f"The bands' RMS in the training windows is {rms.tolist()}: a band is empty or not finite. Look at the "
                "recordings, or leave that band out when the windows are made."
            )
        return tuple(float(value) for value in rms)

    def describe(self, key: str, default: str = "") -> str:
        """Return a text stored beside the first training windows, such as ``data`` ("real", or what stands in)."""
        with np.load(self.train_dataset.paths[0]) as file:
            return str(file[key]) if key in file.files else default

    def ch_names(self) -> list[str]:
        """Return the channels' names, or ch 0, ch 1 ... where the files hold none."""
        with np.load(self.train_dataset.paths[0]) as file:
            if "ch_names" in file.files:
                return [str(name) for name in file["ch_names"]]
        return [f"ch {channel}" for channel in range(self.channels)]

    def train_dataloader(self) -> DataLoader:
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.train_dataset, self.batch_size, shuffle=True, generator=order, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val_dataset, self.batch_size, num_workers=self.num_workers)


class _Header:
    """What a file says of itself, checked without reading its windows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                keys = {Path(name).stem for name in archive.namelist()}
                missing = [key for key in KEYS if key not in keys]
                if missing:
                    raise ValueError(
                        f"{path} lacks {', '.join(missing)}; a sample needs {', '.join(KEYS)} and this one has "
                        f"{', '.join(sorted(keys)) or 'nothing'}. Make it again with cumulative_frequency_levels."
                    )
                levels, signal = _member_shape(archive, "cumulative_bands"), _member_shape(archive, "signal")
            with np.load(path) as file:
                bands, self.sfreq = np.asarray(file["bands"], float), float(file["sfreq"])
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            size = path.stat().st_size if path.exists() else 0
            raise ValueError(
                f"{path} cannot be read as npz ({error}); it has {size} bytes on disk and was left as it is. "
                "Delete it and make it again."
            ) from error
        if len(levels) not in (3, 4):
            raise ValueError(
                f"{path}: cumulative_bands has shape {levels}; it must be (bands, channels, time), or (windows, bands, "
                "channels, time) for a whole recording."
            )
        self.windows = levels[0] if len(levels) == 4 else None
        self.shape = levels[-3:]
        wanted = (*levels[:-3], *self.shape[1:])
        if signal != wanted:
            raise ValueError(f"{path}: signal has shape {signal}, its cumulative_bands {levels} ask for {wanted}.")
        if bands.shape != (self.shape[0], 2):
            raise ValueError(
                f"{path}: bands has shape {bands.shape}, cumulative_bands {self.shape[0]} bands; give one (l_freq, "
                "h_freq) in Hz for each."
            )
        self.bands = tuple((round(float(low), 4), round(float(high), 4)) for low, high in bands)

    def check_like(self, first: _Header) -> None:
        """Refuse a file that cannot be in one batch with the first."""
        for what, mine, its in (
            ("windows of (bands, channels, time)", self.shape, first.shape),
            ("bands in Hz", self.bands, first.bands),
            ("sfreq in Hz", self.sfreq, first.sfreq),
        ):
            if mine != its:
                raise ValueError(
                    f"{self.path} has {what} {mine}, {first.path.name} has {its}; one data set holds one kind. Make "
                    "them again with the same settings, or keep them in separate folders."
                )


def _npz_files(source: str | Path | Sequence[str | Path], split: str | None) -> tuple[list[Path], bool]:
    """The npz files, and whether the split's folder was absent and the whole root was taken."""
    if not isinstance(source, (str, Path)):
        files = [Path(path) for path in source]
        absent = [path for path in files if not path.is_file()]
        if not files:
            raise FileNotFoundError("No npz files were given; make windows first (10_eeg_windows).")
        if absent:
            raise FileNotFoundError(f"{absent[0]} is not there ({len(absent)} of {len(files)} npz files are missing).")
        return files, False
    root = Path(source)
    folder, fallback = root, False
    if split is not None:
        folder, fallback = (root / split, False) if any((root / split).glob("*.npz")) else (root, True)
    files = sorted(folder.rglob("*.npz"))
    if not files:
        state = "has no npz file in it" if root.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"{root} {state}; a data set is <root>/train/*.npz and <root>/val/*.npz. "
            "Make one with: python -m nbkit.neuro.bandvar.make_dummy ROOT"
        )
    return files, fallback


def _names(path: Path) -> dict[str, Any]:
    """Subject and run of a recording's file; its own name where it holds none."""
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


def _open_member(path: Path, key: str) -> np.ndarray:
    """Map a stored array, or read a compressed one."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        with np.load(path) as file:
            return file[key]
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # the local header's name and extra lengths; the central ones may differ
        name, extra = np.frombuffer(file.read(4), "<u2")
        file.seek(info.header_offset + 30 + int(name) + int(extra))
        shape, fortran, dtype = _read_header(file)
        return np.memmap(path, dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran else "C")
