"""Store the windows of a recording in one file, map them from it, and split them in time.

A file holds the windows of one recording, (windows, bins, units), with all its units. Padding and masks for different
numbers of units are added only when a batch is made. Units keep their recording's name, so that none are confused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.spikes.binned import TEXTS, BinnedRecording
from nbkit.neuro.signals.windows.mapped import map_member

_ARRAYS = ("counts", "observed", "behaviour")
_KEYS = (
    *TEXTS, *_ARRAYS, "starts", "bin_s", "unit_ids", "regions", "classes", "circular", "snr", "mean_counts",
)  # fmt: skip


class SpikeShard:
    """Memory-mapped windows of one recording in a file.

    Attributes
    ----------
    counts : ndarray of shape (windows, bins, units)
    observed : bool ndarray of shape (windows, bins, units), or (windows, bins, 1) if equal for all units
    behaviour : ndarray of shape (windows, bins, dims)
    starts : ndarray of shape (windows,), in s
    bin_s, snr : float
    name, species, modality, subject, task, behaviour_unit, activity, data : str
        See `BinnedRecording`.
    unit_ids, regions, classes : tuple of str
    mean_counts : ndarray of shape (units,)
        Mean spikes per bin over the observed bins of the whole recording.
    next_window : int array of shape (windows,)
        Index of the window that begins where this one ends; -1 if there is none.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file does not exist, or does not hold windows.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no file of spike windows {self.path}; cut them first.")
        with np.load(self.path) as file:
            missing = [key for key in _KEYS if key not in file.files]
            if missing:
                raise ValueError(
                    f"{self.path} lacks {', '.join(missing)}: it holds no spike windows (it has "
                    f"{', '.join(file.files[:8])}). Save the result of BinnedRecording.windows."
                )
            for key in TEXTS:
                setattr(self, key, str(file[key]))
            self.starts, self.mean_counts = file["starts"], file["mean_counts"]
            self.bin_s, self.snr = float(file["bin_s"]), float(file["snr"])
            self.circular = bool(file["circular"])
            texts = (tuple(map(str, file[key])) for key in ("unit_ids", "regions", "classes"))
            self.unit_ids, self.regions, self.classes = texts
        self._maps()
        length = self.n_bins * self.bin_s
        after = np.searchsorted(self.starts, self.starts + length - self.bin_s / 4)
        found = np.minimum(after, len(self.starts) - 1)
        near = np.abs(self.starts[found] - self.starts - length) < self.bin_s / 2
        self.next_window = np.where(near & (after < len(self.starts)), found, -1)

    def _maps(self) -> None:
        self.counts, self.observed, self.behaviour = (map_member(self.path, key) for key in _ARRAYS)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **dict.fromkeys(_ARRAYS)}  # each worker maps the file itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._maps()

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_bins(self) -> int:
        return self.counts.shape[1]

    @property
    def n_units(self) -> int:
        return len(self.unit_ids)

    def truth(self, name: str) -> np.ndarray:
        """Return a stored truth of a simulation; raise ValueError if the recording has none."""
        with np.load(self.path) as file:
            if f"truth_{name}" not in file.files:
                raise ValueError(f"{self.path.name} has no truth {name!r}: only simulated recordings have one.")
            return file[f"truth_{name}"]


def split_time(
    shard: SpikeShard, fractions: Sequence[float] = (0.7, 0.15, 0.15), gap_s: float = 0.0, blocks: int = 1
) -> tuple[np.ndarray, ...]:
    """Split the windows of a recording in time: one interval per side and block, with gaps in between.

    Parameters
    ----------
    shard : SpikeShard
    fractions : (train, val, test)
        Shares of the recording's time, in this order; 0 for no such side.
    gap_s : float
        Smallest gap between the last window of a side and the first of the next, in s.
    blocks : int
        Parts of equal time, each of which is split: with more than one, every side has windows of the whole recording,
        also where behaviour changes in its course.

    Returns
    -------
    train, val, test : int array of shape (windows,)

    Raises
    ------
    ValueError
        If a side with a share above 0 gets no windows.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"Invalid {fractions=}: no shares of (train, val, test); give three that sum to 1.")
    length = shard.n_bins * shard.bin_s
    ends, slack = shard.starts + length, shard.bin_s / 2
    borders = shard.starts[0] + (ends[-1] - shard.starts[0]) * np.arange(blocks + 1) / blocks
    found: list[list[np.ndarray]] = [[], [], []]
    free_from = -np.inf
    for first, last in zip(borders[:-1], borders[1:], strict=True):
        inner = first + (last - first) * np.cumsum([0.0, *fractions])
        for number, (begin, end) in enumerate(zip(inner[:-1], inner[1:], strict=True)):
            since = max(begin, free_from) - slack
            side = np.flatnonzero((shard.starts >= since) & (ends <= end + slack)) if fractions[number] else []
            found[number].append(np.asarray(side, int))
            free_from = ends[side[-1]] + gap_s if len(side) else free_from
    sides = [np.concatenate(parts) for parts in found]
    for share, side in zip(fractions, sides, strict=True):
        if share and len(side) == 0:
            raise ValueError(
                f"Recording {shard.name}: {len(shard)} windows of {length:g} s, over {ends[-1] - shard.starts[0]:g} s, "
                f"cannot be split as {tuple(fractions)} with {gap_s=} and {blocks=}: one side gets none. Use a longer "
                "recording, shorter windows, a smaller gap or fewer blocks."
            )
    return tuple(sides)


def write_windows(folder: str | Path, recordings: Sequence[BinnedRecording], n_bins: int) -> list[Path]:
    """Write one file of windows per recording and return the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for recording in recordings:
        paths.append(folder / f"{recording.name}.npz")
        np.savez(paths[-1], **recording.windows(n_bins))
    return paths
