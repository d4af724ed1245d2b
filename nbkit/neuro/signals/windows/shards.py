"""Read windows in shards through memory maps.

All shards of a data set must have the same channels, sampling rate and length, which is checked when they are opened.
See `shard_writing` for the format. Opening reads only indices and headers.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from nbkit.ground.stand_in import is_made_up
from nbkit.neuro.signals.windows.mapped import TORCH_DTYPES, map_member, map_npy, npy_header, read_header
from nbkit.neuro.signals.windows.shard_writing import FORMAT, WHOLE, write_shard, write_signal

__all__ = ["WindowShards", "write_shard", "write_signal"]


class WindowShards(Dataset):
    """Dataset of windows of many recordings, each a Tensor of shape (channels, time) in uV with its columns.

    A window of a float32 file is a view of its pages: clone it before writing into it. A window of a float16 file is a
    float32 copy. Files are mapped on first access, separately in each worker.

    Parameters
    ----------
    paths : path or sequence of path
        Indices and npy files, npz items of the phase eeg_windows, or folders of those.
    columns : sequence of str
        Numeric columns in each sample; ``()`` for none.
    purpose : str, optional
        Use only the indices of this name, such as ``challenge1``; needed if recordings have several. An index named
        ``windows``, and an npz item, serve any purpose.

    Attributes
    ----------
    ch_names : tuple of str
    sfreq : float
        Sampling rate, in Hz.
    paths : list of Path
        The indices and npz files, one per shard, ordered by name for any order of the argument.

    Raises
    ------
    FileNotFoundError
        If there is no shard, or a file or its index is missing.
    ValueError
        If a shard is damaged, differs from the first in channels, sampling rate or length, or lacks a column.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        columns: Sequence[str] = ("target",),
        purpose: str | None = None,
    ) -> None:
        self.paths = _shard_files(paths, purpose)
        shards = [_Shard(path) for path in self.paths]
        for shard in shards[1:]:
            shard.check_like(shards[0])
        self.ch_names, self.sfreq, self._n_times = shards[0].ch_names, shards[0].sfreq, shards[0].shape[2]
        self._counts = np.array([shard.shape[0] for shard in shards])
        self._ends = np.cumsum(self._counts)
        self._shard_subjects = np.array([shard.subject for shard in shards])
        self._facts = [shard.facts for shard in shards]
        self._files = [shard.file for shard in shards]
        self._baseline = [shard.baseline for shard in shards]
        self._starts = None
        if any(shard.starts is not None for shard in shards):
            self._starts = np.concatenate([_starts(shard) for shard in shards])
        self._columns = {
            name: _joined([shard.columns[name] for shard in shards])
            for name in shards[0].columns
            if all(name in shard.columns for shard in shards)
        }
        self._rows = np.arange(int(self._ends[-1]))
        self.columns = self._numeric(columns)
        self._maps: dict[int, torch.Tensor | np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(self._rows[index])
        sample: dict[str, Any] = {"window": self._window(row)}
        for name in self.columns:
            sample[name] = self._columns[name][row].item()
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # each worker maps the files itself

    @property
    def n_times(self) -> int:
        """Samples of a window."""
        return self._n_times

    @property
    def n_chans(self) -> int:
        """Number of channels."""
        return len(self.ch_names)

    @property
    def subjects(self) -> np.ndarray:
        """Name of the subject of each window."""
        return self._shard_subjects[self.shard_of]

    @property
    def shard_of(self) -> np.ndarray:
        """Index in ``paths`` of each window's shard."""
        return np.searchsorted(self._ends, self._rows, side="right")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns that all shards have."""
        return tuple(self._columns)

    def column(self, name: str) -> np.ndarray:
        """Return one column, shape (windows,).

        Raises
        ------
        ValueError
            If a shard does not have it.
        """
        if name not in self._columns:
            raise ValueError(
                f"No column {name!r} in all {len(self.paths)} shards ({self.paths[0]} and others); they have "
                f"{', '.join(self._columns) or 'none'}. Choose one of these (TARGET in a notebook), cut windows for a "
                "purpose that has it, or pass columns=()."
            )
        return self._columns[name][self._rows]

    def fact(self, name: str, default: str = "") -> str:
        """Return a fact of the first window's shard, such as ``data``: "real", or the kind of synthetic data."""
        shard = int(self.shard_of[0]) if len(self) else 0
        return str(self._facts[shard].get(name, default))

    @property
    def facts(self) -> list[dict[str, Any]]:
        """Facts of every shard, in the order of ``paths``."""
        return self._facts

    @property
    def starts(self) -> np.ndarray | None:
        """First sample of each window in its shard's signal; None if the shards hold windows only."""
        return None if self._starts is None else self._starts[self._rows]

    @property
    def files(self) -> list[Path]:
        """The file of samples of every shard, in the order of ``paths``."""
        return self._files

    @property
    def baselines(self) -> list[tuple[int, int] | None]:
        """First sample and end of every shard's baseline, from a window's start; None for none."""
        return self._baseline

    def subset(self, keep: np.ndarray | Sequence[int]) -> WindowShards:
        """Return a view of some windows, selected by a bool per window or by their indices."""
        keep = np.asarray(keep)
        if keep.dtype == bool and keep.shape != (len(self),):
            raise ValueError(f"The mask has shape {keep.shape} for {len(self)} windows; it needs one bool per window.")
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._rows = self._rows[keep] if keep.size else self._rows[:0]
        view._maps = {}
        return view

    def carrying(self, columns: Sequence[str], **made: np.ndarray) -> WindowShards:
        """Return a view whose samples hold these columns; ``made`` gives new ones, with a value per window."""
        view = self.subset(np.arange(len(self)))
        view._columns = dict(self._columns)
        for name, values in made.items():
            view._columns[name] = np.zeros(int(self._ends[-1]), np.asarray(values).dtype)
            view._columns[name][self._rows] = values
        view.columns = view._numeric(columns)
        return view

    def _numeric(self, columns: Sequence[str]) -> tuple[str, ...]:
        for name in columns:
            if self.column(name).dtype.kind not in "biuf":
                raise ValueError(
                    f"Column {name!r} is text, but batches hold numbers. Read it with column({name!r}), or make it "
                    f"the target of WindowData (TARGET = {name!r} in a notebook), where texts are classes."
                )
        return tuple(columns)

    def stack(self, limit: int | None = None) -> np.ndarray:
        """Return windows as one array (windows, channels, time) in uV; if limited, evenly spaced ones."""
        count = len(self) if limit is None else min(limit, len(self))
        rows = self._rows[np.linspace(0, len(self) - 1, count).round().astype(int)]
        stacked = np.empty((count, self.n_chans, self.n_times), np.float32)
        for position, row in enumerate(rows):
            stacked[position] = np.asarray(self._window(int(row)))
        return stacked

    def _window(self, row: int) -> torch.Tensor:
        shard = int(np.searchsorted(self._ends, row, side="right"))
        if shard not in self._maps:
            file = self._files[shard]
            self._maps[shard] = map_npy(file) if file.suffix == ".npy" else map_member(file, "signal")
        stored = self._maps[shard]
        if stored.ndim == 2:
            start = int(self._starts[row])
            window = stored[start : start + self._n_times].T.float()
            if (span := self._baseline[shard]) is not None:
                window = window - window[:, span[0] : span[1]].mean(dim=1, keepdim=True)
            return window
        window = stored[row - int(self._ends[shard] - self._counts[shard])]
        if isinstance(window, torch.Tensor):
            return window.float()
        return torch.from_numpy(np.array(window, dtype=np.float32))  # copy: arrays inside an npz are not aligned


def shard_heads(paths: str | Path | Sequence[str | Path], purpose: str | None = None) -> list[_Shard]:
    """Return the metadata of each shard: ``path``, ``ch_names``, ``sfreq`` and ``shape``, whether they fit or not."""
    return [_Shard(path) for path in _shard_files(paths, purpose)]


class _Shard:
    """Metadata of a shard, checked without reading its windows."""

    def __init__(self, path: Path) -> None:
        self.path = self.file = path
        self.starts: np.ndarray | None = None
        self.baseline: tuple[int, int] | None = None
        self._read_npz() if path.suffix == ".npz" else self._read_index()
        if len(self.shape) != 3 or 0 in self.shape or len(self.ch_names) != self.shape[1]:
            raise ValueError(
                f"{path} has windows of shape {self.shape} and {len(self.ch_names)} ch_names; it must be (windows, "
                "channels, time)."
            )
        for name, values in self.columns.items():
            if len(values) != self.shape[0]:
                raise ValueError(f"{path}: column {name!r} has {len(values)} values for {self.shape[0]} windows.")

    def _read_index(self) -> None:
        said = json.loads(self.path.read_text("utf-8"))
        if said.get("format") != FORMAT:
            raise ValueError(
                f"{self.path} has the format {said.get('format')!r}, not {FORMAT!r}. Cut the windows again."
            )
        self.file = self.path.with_name(said["file"])
        if not self.file.is_file():
            raise FileNotFoundError(
                f"{self.file} is missing, but its index {self.path.name} exists. Download or write it again."
            )
        stored, dtype, _ = npy_header(self.file)
        self.shape = tuple(said["shape"])
        self.baseline = tuple(said["baseline"]) if said.get("baseline") else None
        if "starts" in said:
            self.starts = np.array(said["starts"], int)
            fits = len(stored) == 2 and stored[1] == self.shape[1] and len(self.starts) == self.shape[0]
            fits = fits and self.starts.min() >= 0 and self.starts.max() + self.shape[2] <= stored[0]
        else:
            fits = stored == self.shape
        if not fits or dtype not in TORCH_DTYPES:
            raise ValueError(
                f"{self.file} holds {dtype} of shape {stored}, but {self.path.name} says windows of shape "
                f"{self.shape}: one of them is from another run. Write both again."
            )
        self.subject, self.sfreq, self.facts = said["subject"], float(said["sfreq"]), said["facts"]
        self.ch_names = tuple(said["ch_names"])
        self.columns = {name: _column(values) for name, values in said["columns"].items()}

    def _read_npz(self) -> None:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("signal.npy") as member:
                self.shape = read_header(member)[0]
            with np.load(self.path) as file:
                small = {name: file[name] for name in file.files if name not in ("signal", "cumulative_bands", "bands")}
        except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
            raise ValueError(f"{self.path} cannot be read as windows ({error}); it was left as it is.") from error
        self.subject, self.sfreq = str(small.get("subject", "unknown")), float(small["sfreq"])
        names = small.get("ch_names", [f"ch {channel}" for channel in range(self.shape[1])])
        self.ch_names = tuple(str(name) for name in names)
        self.facts = {name: str(values) for name, values in small.items() if values.ndim == 0}
        self.columns = {n: v for n, v in small.items() if v.ndim == 1 and n != "ch_names" and len(v) == self.shape[0]}

    def check_like(self, first: _Shard) -> None:
        """Raise if a shard has other channels, sampling rate or length than the first."""
        for what, mine, its in (
            ("channels", self.ch_names, first.ch_names),
            ("sfreq in Hz", self.sfreq, first.sfreq),
            ("samples per window", self.shape[2], first.shape[2]),
        ):
            if mine != its:
                kinds = [is_made_up(shard.facts.get("data", "")) for shard in (self, first)]
                how = "Cut them again with the same settings, or read them separately."
                if kinds[0] != kinds[1]:
                    how = "One recording is a stand-in, the other is real: take another store for the real ones."
                raise ValueError(
                    f"{self.path} has {what} {_brief(mine)}, {first.path} has {_brief(its)}; one data set holds one "
                    f"kind. {how}"
                )


def _column(values: list[Any]) -> np.ndarray:
    """Return a column as array; None becomes "" in text and NaN in numbers."""
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else value for value in values])
    return np.array([np.nan if value is None else value for value in values])


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return one column of several shards: text if any has text, where a missing number is ""."""
    text = [part.dtype.kind == "U" and bool((part != "").any()) for part in parts]
    if any(text):
        return np.concatenate([p if p.dtype.kind == "U" else _as_text(p) for p in parts])
    if any(part.dtype.kind != "U" for part in parts):
        return np.concatenate([np.full(len(p), np.nan) if p.dtype.kind == "U" else p for p in parts])
    return np.concatenate(parts)


def _as_text(numbers: np.ndarray) -> np.ndarray:
    return np.array([f"{value:g}" if np.isfinite(value) else "" for value in numbers.astype(float)])


def _starts(shard: _Shard) -> np.ndarray:
    return np.full(shard.shape[0], -1) if shard.starts is None else shard.starts


def _brief(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} ({', '.join(value[:3])} ... {value[-1]})" if len(value) > 4 else ", ".join(value)
    return str(value)


def _shard_files(paths: str | Path | Sequence[str | Path], purpose: str | None) -> list[Path]:
    """Return the indices and npz files, ordered by their last two path parts, so that the folder does not matter."""
    given = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    files: list[Path] = []
    for path in given:
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist ({len(given)} paths were given). Download or cut them again."
            )
        files += [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    indices = {file for file in files if file.suffix == ".json"}
    indices |= {file.with_suffix(".json") for file in files if file.suffix == ".npy" and file.stem != "signal"}
    lost = [index for index in indices if not index.is_file()]
    if lost:
        raise FileNotFoundError(
            f"{lost[0]} is missing; the npy file cannot be used without its index. Download or write both again."
        )
    archives = [file for file in files if file.suffix == ".npz"]
    purposes = sorted({index.stem for index in indices})
    if purpose is not None:
        indices = {index for index in indices if index.stem in (purpose, WHOLE)}
    elif len(purposes) > 1:
        raise ValueError(f"These recordings were cut for {', '.join(purposes)}; set purpose= to one of them.")
    if not indices and not archives:
        wanted = "windows" if purpose is None else f"windows for {purpose}"
        raise FileNotFoundError(
            f"No {wanted} among {', '.join(map(str, given[:3])) or 'nothing'} "
            f"(found: {', '.join(purposes) or 'no index, no npz'}). Cut windows first (10_eeg_windows)."
        )
    return sorted([*indices, *archives], key=lambda file: (file.parts[-2:], str(file)))
