"""Cumulative bands of windows.

Two layouts are read: recordings in shards, as 10_eeg_windows writes them, whose bands are computed at reading, and the
original Band-VAR layout of npz files with their bands (one window in each file, in ``<root>/{train,val}``, or all
windows of a recording). The headers of all files are checked before training starts. Windows of shards that lie at the
edges of a recording, where the filters see mirrored samples, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nbkit.neuro.bandvar.npz_files import NpzHeader, names_of, npz_files, open_member
from nbkit.neuro.signals.bands import edge_samples
from nbkit.neuro.signals.splits import split_recordings
from nbkit.neuro.signals.windows.band_levels import BandLevels
from nbkit.neuro.signals.windows.shards import WindowShards

_SCALE_WINDOWS = 256  # enough for an RMS; evenly spaced, so that every session computes the same scale


class EEGFrequencyDataset(Dataset):
    """Windows of cumulative bands, each a Tensor of shape (bands, channels, time) in uV.

    Parameters
    ----------
    source : path or sequence of path
        A folder, or npz files, or the files of shards. Uncompressed npz files are memory-mapped; compressed ones are
        read into memory.
    split : str, optional
        Sub-folder to read (train or val). If it has no npz file, all npz files of the folder are used and ``fallback``
        is true.
    limit : int, optional
        Use only the first ``limit`` windows.
    surrogate : int, optional
        Seed; if it is given, the windows are those of phase-randomised surrogates of the recordings. Shards only.

    Attributes
    ----------
    at_edges : int
        Windows left out because they lie at the edges of a recording.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or has no npz file.
    ValueError
        If ``limit`` is below 1, or a file is damaged, lacks a key, or differs from the first file in shape, bands or
        sampling frequency; if all windows lie at edges, or a surrogate is asked of windows without recordings.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        split: str | None = None,
        limit: int | None = None,
        surrogate: int | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"{limit=} windows is too few; give 1 or more, or leave it out to use all windows.")
        self._levels: BandLevels | None = None
        self.at_edges = 0
        if _are_shards(source):
            self._open_shards(source, limit, surrogate)
            return
        if surrogate is not None:
            raise ValueError(
                "These npz files hold windows without the recordings that they were cut from, so there is no surrogate "
                "of them. Use the recordings in shards that 10_eeg_windows writes, or train without the surrogate."
            )
        self.paths, self.fallback = npz_files(source, split)
        first = NpzHeader(self.paths[0])
        self.bands, self.sfreq = first.bands, first.sfreq
        self._places: list[tuple[int, int | None]] = []  # (file, window in it)
        for number, path in enumerate(self.paths):
            header = first if number == 0 else NpzHeader(path)
            header.check_like(first)
            inside = [None] if header.windows is None else range(header.windows)
            self._places.extend((number, window) for window in inside)
            if limit is not None and len(self._places) >= limit:
                break
        self._places = self._places[:limit]
        self._shape = first.shape
        self._open: dict[int, np.ndarray] = {}

    def _open_shards(self, source: str | Path | Sequence[str | Path], limit: int | None, surrogate: int | None) -> None:
        shards = WindowShards(source, columns=(), purpose="pretrain")
        kept = BandLevels(shards).off_edges()
        if not kept.any():
            room = edge_samples(shards.sfreq) / shards.sfreq
            raise ValueError(
                f"All {len(kept)} windows lie within {room:.1f} s of the edges of their recordings, where the filters "
                "of the bands see mirrored samples, so none can be used. Give longer recordings, or shorter windows "
                "(WINDOW_S in the notebook 10_eeg_windows)."
            )
        self.at_edges = int((~kept).sum())
        shards = shards.subset(np.flatnonzero(kept)[:limit])
        self._levels = BandLevels(shards, surrogate=surrogate)
        self.paths, self.fallback = shards.paths, False
        self.bands, self.sfreq = self._levels.bands, shards.sfreq
        self._places = [(int(shard), None) for shard in shards.shard_of]
        self._shape, self._open = (len(self.bands), shards.n_chans, shards.n_times), {}

    @property
    def input_shape(self) -> tuple[int, int]:
        """Shape of a window: (channels, time)."""
        return self._shape[1:]

    @property
    def shards(self) -> WindowShards | None:
        """The shards that are read; None for npz files with bands."""
        return None if self._levels is None else self._levels.shards

    @property
    def num_stages(self) -> int:
        """Number of bands."""
        return self._shape[0]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self._levels is not None:
            return torch.from_numpy(self._levels[index].copy())
        number, window = self._places[index]
        if number not in self._open:
            self._open[number] = open_member(self.paths[number], "cumulative_bands")
        levels = self._open[number]
        return torch.from_numpy(np.array(levels if window is None else levels[window], dtype=np.float32))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # memory maps cannot be pickled: each worker opens the files itself

    def column(self, name: str) -> list[str]:
        """Return a text entry of every window, such as ``label``, ``subject`` or ``run``; "" where it is not stored."""
        if self._levels is not None:
            shards = self._levels.shards
            if name == "subject":
                return [str(subject) for subject in shards.subjects]
            if name in shards.column_names:
                return [str(value) for value in shards.column(name)]
            return [str(shards.facts[number].get(name, "")) for number, _ in self._places]
        stored: dict[int, np.ndarray] = {}
        for number in sorted({number for number, _ in self._places}):
            with np.load(self.paths[number]) as file:
                stored[number] = file[name] if name in file.files else np.array("")
        return [
            str(stored[number] if stored[number].ndim == 0 else stored[number][window or 0])
            for number, window in self._places
        ]

    def stack(self, limit: int | None = None) -> np.ndarray:
        """Return windows as one array of shape (windows, bands, channels, time), in uV.

        With ``limit``, at most that many windows are returned, evenly spaced over the data set.
        """
        return np.stack([self[int(i)].numpy() for i in self.spaced(limit)])

    def spaced(self, limit: int | None = None) -> np.ndarray:
        """Return the numbers of the windows that `stack` takes, int64 of shape (windows,)."""
        count = len(self) if limit is None else min(limit, len(self))
        return np.linspace(0, len(self) - 1, count).round().astype(np.int64)


class BandData(lightning.LightningDataModule):
    """Training and validation windows, split so that no run is on both sides.

    Parameters
    ----------
    source : path or sequence of path
        A folder with train/ and val/ (which are the split), the npz files of recordings, or a folder of such files.
        Recordings are split by subject if there are several subjects, otherwise by run.
    batch_size : int
        Windows in a batch.
    val_fraction : float
        Fraction of the recordings used for validation.
    seed : int
        Seed of the split, and of the order of the training windows.
    limit_train, limit_val : int, optional
        Use only the first windows of either side.
    num_workers : int
        Worker processes of each loader.
    surrogate : bool
        Whether each sample is a pair: a window, and the same window of a surrogate of its recording, together a Tensor
        of shape (2, bands, channels, time).
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
        surrogate: bool = False,
    ) -> None:
        super().__init__()
        self.source, self.batch_size, self.num_workers = source, batch_size, num_workers
        self.val_fraction, self.seed = val_fraction, seed
        self.limit_train, self.limit_val = limit_train, limit_val
        self.surrogate = surrogate
        self._sets: tuple[EEGFrequencyDataset, EEGFrequencyDataset] | None = None
        self._twins: tuple[EEGFrequencyDataset, EEGFrequencyDataset] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Find, check and split the files. A second call does nothing."""
        if self._sets is not None:
            return
        folder = Path(self.source) if isinstance(self.source, (str, Path)) else None
        if folder is not None and (folder / "train").is_dir():
            sides = (folder, folder)
            train = EEGFrequencyDataset(folder, "train", self.limit_train)
            val = EEGFrequencyDataset(folder, "val", self.limit_val)
        else:
            # Sorted by name, so that the split does not depend on the folder to which a session copied the files.
            rows = _rows(self.source)
            train_rows, val_rows = split_recordings(rows, self.val_fraction, self.seed)
            sides = ([r["path"] for r in train_rows], [r["path"] for r in val_rows])
            train = EEGFrequencyDataset(sides[0], limit=self.limit_train)
            val = EEGFrequencyDataset(sides[1], limit=self.limit_val)
        if self.surrogate:
            limits = (self.limit_train, self.limit_val)
            first, second = (
                EEGFrequencyDataset(side, limit=limit, surrogate=self.seed)
                for side, limit in zip(sides, limits, strict=True)
            )
            self._twins = first, second
        if (val.num_stages, *val.input_shape) != (train.num_stages, *train.input_shape):
            raise ValueError(
                f"Validation windows are (bands, channels, time) = {(val.num_stages, *val.input_shape)}, training "
                f"windows {(train.num_stages, *train.input_shape)}; they must be equal. Create both with the same "
                "settings."
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
    def twins(self) -> tuple[EEGFrequencyDataset, EEGFrequencyDataset]:
        """Training and validation windows of the surrogates, in the order of the true ones.

        Raises
        ------
        ValueError
            If the data were opened without the surrogate.
        """
        self.setup()
        if self._twins is None:
            raise ValueError("These data were opened without the surrogate; pass surrogate=True.")
        return self._twins

    @property
    def channels(self) -> int:
        return self.train_dataset.input_shape[0]

    @property
    def time_steps(self) -> int:
        return self.train_dataset.input_shape[1]

    @property
    def bands(self) -> tuple[tuple[float, float], ...]:
        """Band edges (l_freq, h_freq) in Hz."""
        return self.train_dataset.bands

    @property
    def sfreq(self) -> float:
        """Sampling frequency in Hz."""
        return self.train_dataset.sfreq

    @property
    def scale(self) -> tuple[float, ...]:
        """Root mean square (RMS) of each band in the training windows, in the unit of the data (uV)."""
        return self._scale_of(self.train_dataset)

    @property
    def surrogate_scale(self) -> tuple[float, ...]:
        """RMS of each band in the training windows of the surrogates, in uV."""
        return self._scale_of(self.twins[0])

    def _scale_of(self, dataset: EEGFrequencyDataset) -> tuple[float, ...]:
        levels = dataset.stack(_SCALE_WINDOWS).astype(np.float64)
        increments = np.diff(levels, axis=1, prepend=0.0)
        rms = np.sqrt((increments**2).mean(axis=(0, 2, 3)))
        if not (np.isfinite(rms) & (rms > 0)).all():
            raise ValueError(
                f"The RMS of the bands in the training windows is {rms.tolist()}: a band is empty or not finite. "
                "Inspect the recordings, or leave that band out when you create the windows."
            )
        return tuple(float(value) for value in rms)

    def describe(self, key: str, default: str = "") -> str:
        """Return a text entry of the first training file, or ``default`` if the file lacks it.

        The entry ``data``, for example, is "real" or the label of synthetic stand-in data.
        """
        if self.train_dataset.shards is not None:
            return self.train_dataset.shards.fact(key, default)
        with np.load(self.train_dataset.paths[0]) as file:
            return str(file[key]) if key in file.files else default

    def ch_names(self) -> list[str]:
        """Return the channel names, or "ch 0", "ch 1" and so on if the files store none."""
        if self.train_dataset.shards is not None:
            return list(self.train_dataset.shards.ch_names)
        with np.load(self.train_dataset.paths[0]) as file:
            if "ch_names" in file.files:
                return [str(name) for name in file["ch_names"]]
        return [f"ch {channel}" for channel in range(self.channels)]

    def train_dataloader(self) -> DataLoader:
        order = torch.Generator().manual_seed(self.seed)
        train = _Pairs(self.train_dataset, self.twins[0]) if self.surrogate else self.train_dataset
        return DataLoader(train, self.batch_size, shuffle=True, generator=order, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        val = _Pairs(self.val_dataset, self.twins[1]) if self.surrogate else self.val_dataset
        return DataLoader(val, self.batch_size, num_workers=self.num_workers)


class _Pairs(Dataset):
    """Windows with the same windows of the surrogates, each pair a Tensor of shape (2, bands, channels, time)."""

    def __init__(self, windows: EEGFrequencyDataset, twins: EEGFrequencyDataset) -> None:
        self.windows, self.twins = windows, twins

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.stack([self.windows[index], self.twins[index]])


def _rows(source: str | Path | Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return path, subject and run of every recording, sorted by name.

    The split must not depend on the folder to which a session copied the files.
    """
    if _are_shards(source):
        shards = WindowShards(source, columns=(), purpose="pretrain")
        first = np.searchsorted(shards.shard_of, np.arange(len(shards.paths)))
        return [
            {"path": path, "subject": str(shards.subjects[at]), "run": str(facts.get("run", path.parent.name))}
            for path, at, facts in zip(shards.paths, first, shards.facts, strict=True)
        ]
    return [names_of(path) for path in sorted(npz_files(source, None)[0], key=lambda p: (p.name, str(p)))]


def _are_shards(source: str | Path | Sequence[str | Path]) -> bool:
    """Return whether a source holds the indices of shards."""
    if isinstance(source, (str, Path)):
        return next(Path(source).rglob("*.json"), None) is not None if Path(source).is_dir() else False
    return any(Path(path).suffix == ".json" for path in source)


def file_names(paths: Sequence[Path]) -> list[str]:
    """Return the sorted "folder/name" of files, which is the same in every session."""
    return sorted(f"{Path(path).parent.name}/{Path(path).name}" for path in paths)
