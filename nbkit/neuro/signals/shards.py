"""Windows in shards: one npy file and one index a recording, read through memory maps.

A shard is `<name>.npy`, float32 of shape (windows, channels, time) in uV, and `<name>.json` beside it, which says whose
windows they are and holds their columns (targets, events, times). All shards of a data set have the same channels,
sampling frequency and length; every window is finite.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from nbkit.neuro.signals.mapped import map_member, map_npy, npy_header, read_header

FORMAT = "nbkit window shard 1"


def write_shard(
    folder: str | Path,
    windows: np.ndarray,
    *,
    sfreq: float,
    ch_names: Sequence[str],
    subject: str,
    columns: Mapping[str, np.ndarray],
    name: str = "windows",
    **facts: str | float,
) -> dict[str, Path]:
    """Write one recording's windows and their index, and give both paths.

    Parameters
    ----------
    folder : path
        Made where it is not there.
    windows : array of shape (windows, channels, time)
        In uV; kept as float32.
    sfreq : float
        Samples a second, in Hz.
    ch_names : sequence of str
    subject : str
        Whose windows they are.
    columns : mapping of str to array of shape (windows,)
        Numbers or text, one value a window: ``target``, ``start_s``, ``task``, ``event`` and so on.
    name : str
        Of the files, without suffix.
    **facts : str or float
        Said of the whole shard, such as ``data="real"`` or ``recording="sub-X_task-Y"``.

    Returns
    -------
    paths : dict
        ``windows`` and ``index``, as an item of the manifest loop saves them.

    Raises
    ------
    ValueError
        If windows are not three-dimensional, or are none, or hold NaN; if names or columns do not fit them.
    """
    windows = np.asarray(windows)
    recording = facts.get("recording", f"subject {subject}")
    if windows.ndim != 3 or 0 in windows.shape:
        raise ValueError(f"{recording}: windows have shape {windows.shape}; it must be (windows, channels, time).")
    if len(ch_names) != windows.shape[1]:
        raise ValueError(f"{recording}: {len(ch_names)} ch_names for windows of {windows.shape[1]} channels.")
    bad = np.flatnonzero(~np.isfinite(windows).all(axis=(1, 2)))
    if bad.size:
        channels = np.flatnonzero(~np.isfinite(windows[bad[0]]).all(axis=1))
        raise ValueError(
            f"{recording}: {bad.size} of {len(windows)} windows hold NaN or infinite samples (first: window {bad[0]}, "
            f"channel {ch_names[channels[0]]}). Nothing was written. Interpolate or leave out that part first."
        )
    kept = {}
    for column, values in columns.items():
        values = np.asarray(values)
        if values.shape != (len(windows),) or values.dtype.kind not in "biufU":
            raise ValueError(
                f"{recording}: column {column!r} has shape {values.shape} and type {values.dtype}; it must be "
                f"({len(windows)},), one number or text a window."
            )
        # JSON knows no NaN
        kept[column] = [None if isinstance(v, float) and not np.isfinite(v) else v for v in values.tolist()]
    index = {
        "format": FORMAT, "subject": str(subject), "sfreq": float(sfreq), "ch_names": [str(c) for c in ch_names],
        "shape": list(windows.shape), "unit": "uV", "facts": {"data": "real", **facts}, "columns": kept,
    }  # fmt: skip
    paths = {"windows": Path(folder, f"{name}.npy"), "index": Path(folder, f"{name}.json")}
    paths["windows"].parent.mkdir(parents=True, exist_ok=True)
    np.save(paths["windows"], np.ascontiguousarray(windows, dtype=np.float32))
    paths["index"].write_text(json.dumps(index, allow_nan=False), encoding="utf-8")
    return paths


class WindowShards(Dataset):
    """Windows of many recordings, each a Tensor of shape (channels, time) in uV with its columns.

    A window is a view of the file's pages: clone it before writing into it. Opening reads indices and headers; files
    are mapped when a window is asked for, in each worker anew.

    Parameters
    ----------
    paths : path or sequence of path
        Shards (the npy files, with or without their indices), npz items of the phase eeg_windows, or folders of those.
    columns : sequence of str
        Numbers that come with every window; ``()`` for none.

    Attributes
    ----------
    ch_names : tuple of str
    sfreq : float
        In Hz.
    paths : list of Path
        One a shard, ordered by name whatever order they came in.

    Raises
    ------
    FileNotFoundError
        If there is no shard, or a file or its index is missing.
    ValueError
        If a shard is damaged, differs from the first in channels, sampling frequency or length, or lacks a column.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], columns: Sequence[str] = ("target",)) -> None:
        self.paths = _shard_files(paths)
        shards = [_Shard(path) for path in self.paths]
        for shard in shards[1:]:
            shard.check_like(shards[0])
        self.ch_names, self.sfreq, self._n_times = shards[0].ch_names, shards[0].sfreq, shards[0].shape[2]
        self._counts = np.array([shard.shape[0] for shard in shards])
        self._ends = np.cumsum(self._counts)
        self._shard_subjects = np.array([shard.subject for shard in shards])
        self._facts = [shard.facts for shard in shards]
        self._columns = {
            name: np.concatenate([shard.columns[name] for shard in shards])
            for name in shards[0].columns
            if all(name in shard.columns for shard in shards)
        }
        self._rows = np.arange(int(self._ends[-1]))
        self.columns = tuple(columns)
        for name in self.columns:
            if self.column(name).dtype.kind not in "biuf":
                raise ValueError(f"Column {name!r} is text; a batch takes numbers. Read it with column({name!r}).")
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
        return {**self.__dict__, "_maps": {}}  # a worker maps the files itself

    @property
    def n_times(self) -> int:
        """Samples a window."""
        return self._n_times

    @property
    def n_chans(self) -> int:
        """Channels a window."""
        return len(self.ch_names)

    @property
    def subjects(self) -> np.ndarray:
        """Whose window it is, one name a window."""
        return self._shard_subjects[self.shard_of]

    @property
    def shard_of(self) -> np.ndarray:
        """Position in ``paths`` of each window's shard."""
        return np.searchsorted(self._ends, self._rows, side="right")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns that every shard has."""
        return tuple(self._columns)

    def column(self, name: str) -> np.ndarray:
        """Give one column, a value a window.

        Raises
        ------
        ValueError
            If not every shard has it.
        """
        if name not in self._columns:
            raise ValueError(
                f"No column {name!r} in all {len(self.paths)} shards ({self.paths[0]} and others); they have "
                f"{', '.join(self._columns) or 'none'}. Cut windows for a purpose that has it, or ask for columns=()."
            )
        return self._columns[name][self._rows]

    def fact(self, name: str, default: str = "") -> str:
        """Give what the first window's shard says of itself, such as ``data``: "real", or what stands in."""
        shard = int(self.shard_of[0]) if len(self) else 0
        return str(self._facts[shard].get(name, default))

    def subset(self, keep: np.ndarray | Sequence[int]) -> WindowShards:
        """Give a view of some windows: a mask of one bool a window, or their positions."""
        keep = np.asarray(keep)
        if keep.dtype == bool and keep.shape != (len(self),):
            raise ValueError(f"A mask of shape {keep.shape} for {len(self)} windows; it needs one bool a window.")
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._rows = self._rows[keep] if keep.size else self._rows[:0]
        view._maps = {}
        return view

    def stack(self, limit: int | None = None) -> np.ndarray:
        """Give windows as one array of shape (windows, channels, time) in uV, evenly spaced where limited."""
        count = len(self) if limit is None else min(limit, len(self))
        rows = self._rows[np.linspace(0, len(self) - 1, count).round().astype(int)]
        stacked = np.empty((count, self.n_chans, self.n_times), np.float32)
        for position, row in enumerate(rows):
            stacked[position] = np.asarray(self._window(int(row)))
        return stacked

    def _window(self, row: int) -> torch.Tensor:
        shard = int(np.searchsorted(self._ends, row, side="right"))
        if shard not in self._maps:
            path = self.paths[shard]
            self._maps[shard] = map_npy(path) if path.suffix == ".npy" else map_member(path, "signal")
        window = self._maps[shard][row - int(self._ends[shard] - self._counts[shard])]
        if isinstance(window, torch.Tensor):
            return window
        return torch.from_numpy(np.array(window, dtype=np.float32))  # inside an npz nothing is aligned


class _Shard:
    """What a shard says of itself, checked without reading its windows."""

    def __init__(self, path: Path) -> None:
        self.path = path
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
        index = self.path.with_suffix(".json")
        if not index.is_file():
            raise FileNotFoundError(f"{index} is not there; {self.path.name} is of no use without its index.")
        said = json.loads(index.read_text("utf-8"))
        if said.get("format") != FORMAT:
            raise ValueError(f"{index} is in the format {said.get('format')!r}, not {FORMAT!r}. Cut the windows again.")
        self.shape, dtype, _ = npy_header(self.path)
        if list(self.shape) != said["shape"] or dtype != np.float32:
            raise ValueError(
                f"{self.path} holds {dtype} of shape {self.shape}, its index says float32 {tuple(said['shape'])}: one "
                "of them is of another run. Make both again."
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
        """Refuse a shard that cannot be in one batch with the first."""
        for what, mine, its in (
            ("channels", self.ch_names, first.ch_names),
            ("sfreq in Hz", self.sfreq, first.sfreq),
            ("samples a window", self.shape[2], first.shape[2]),
        ):
            if mine != its:
                raise ValueError(
                    f"{self.path} has {what} {_brief(mine)}, {first.path} has {_brief(its)}; one data set holds one "
                    "kind. Cut them again with the same settings, or read them apart."
                )


def _column(values: list[Any]) -> np.ndarray:
    """Text stays text, None is NaN."""
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else value for value in values])
    return np.array([np.nan if value is None else value for value in values])


def _brief(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} ({', '.join(value[:3])} ... {value[-1]})" if len(value) > 4 else ", ".join(value)
    return str(value)


def _shard_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The npy and npz files, ordered by their last two names so that the order does not hang on where they lie."""
    given = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            files += [file for file in path.rglob("*") if file.suffix in (".npy", ".npz")]
        elif not path.is_file():
            raise FileNotFoundError(f"{path} is not there ({len(given)} paths were given). Fetch or cut them again.")
        elif path.suffix in (".npy", ".npz"):
            files.append(path)
    if not files:
        raise FileNotFoundError(
            f"No shard (.npy with its .json, or .npz) among {', '.join(map(str, given[:3])) or 'nothing'}. Cut windows "
            "first (10_eeg_windows)."
        )
    return sorted(files, key=lambda file: (file.parts[-2:], str(file)))
