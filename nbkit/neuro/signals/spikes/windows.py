"""Bin spikes, cut windows, and store one file per recording.

A file holds the windows of one recording, (windows, bins, units), with all its units. Padding and masks for different
numbers of units are added only when a batch is made. Units keep their recording's name, so that none are confused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.spikes.recording import SpikeRecording, recording_snr
from nbkit.neuro.signals.windows.mapped import map_member

_TEXTS = ("name", "species", "modality", "subject", "task", "behaviour_unit", "data")
_KEYS = (*_TEXTS, "counts", "behaviour", "starts", "bin_s", "unit_ids", "regions", "circular", "snr", "mean_counts")


@dataclass(frozen=True)
class BinnedRecording:
    """Binned counts of a recording, with at most one behaviour.

    Attributes
    ----------
    name : str
    counts : ndarray of shape (bins, units)
        Spikes per bin; for imaging, the size of events per bin (0 or more).
    bin_s : float
        Length of a bin, in s.
    unit_ids, regions : sequence of str
        One per unit.
    behaviour : ndarray of shape (bins, dims)
        NaN if unknown; 0 dims without behaviour. Cosine and sine if ``circular``.
    task : str
        Name of the behaviour; "" for none.
    behaviour_unit : str
    circular : bool
    snr : float
        See `recording_snr`.
    start_s : float
    species, modality, subject, data : str
    truth : mapping of str to ndarray
        Known truth of a simulation; stored with the windows as ``truth_<name>``.
    """

    name: str
    counts: np.ndarray
    bin_s: float
    unit_ids: tuple[str, ...]
    regions: tuple[str, ...]
    behaviour: np.ndarray
    task: str = ""
    behaviour_unit: str = ""
    circular: bool = False
    snr: float = 0.0
    start_s: float = 0.0
    species: str = "unknown"
    modality: str = "unknown"
    subject: str = ""
    data: str = "real"
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)

    def windows(self, n_bins: int, stride: int | None = None) -> dict[str, Any]:
        """Return windows and metadata as the arrays that a work item saves.

        Parameters
        ----------
        n_bins : int
            Bins of a window.
        stride : int, optional
            Bins between starts; by default ``n_bins``, without overlap.

        Returns
        -------
        arrays : dict
            ``counts`` (windows, bins, units), ``behaviour`` (windows, bins, dims), ``starts`` (windows,) in s, and the
            recording's metadata.

        Raises
        ------
        ValueError
            If the recording is shorter than a window.
        """
        stride = stride or n_bins
        firsts = np.arange(0, len(self.counts) - n_bins + 1, stride)
        if len(firsts) == 0:
            raise ValueError(
                f"Recording {self.name} has {len(self.counts)} bins of {self.bin_s:g} s, a window {n_bins}: none fits. "
                "Use shorter windows or bins, or leave the recording out."
            )
        places = firsts[:, None] + np.arange(n_bins)
        return {
            "counts": _narrow(self.counts)[places],
            "behaviour": np.asarray(self.behaviour, np.float32)[places],
            "starts": self.start_s + self.bin_s * firsts,
            "bin_s": np.float64(self.bin_s),
            "unit_ids": np.array(self.unit_ids),
            "regions": np.array(self.regions),
            "circular": np.bool_(self.circular),
            "snr": np.float64(self.snr),
            "mean_counts": np.asarray(self.counts, float).mean(axis=0),
            **{name: np.array(getattr(self, name)) for name in _TEXTS},
            **{f"truth_{name}": np.asarray(value) for name, value in self.truth.items()},
        }


def bin_recording(recording: SpikeRecording, bin_s: float, behaviour: str = "") -> BinnedRecording:
    """Count the spikes of a recording in bins, with one behaviour on the same bins.

    Raises
    ------
    ValueError
        If the recording does not have this behaviour, or is shorter than a bin.
    """
    counts = recording.counts(bin_s)
    if behaviour and behaviour not in recording.behaviour:
        raise ValueError(
            f"Recording {recording.name} has no behaviour {behaviour!r}; it has "
            f"{', '.join(recording.behaviour) or 'none'}. Name it when you load the recording."
        )
    found = recording.behaviour[behaviour] if behaviour else None
    return BinnedRecording(
        recording.name, counts, bin_s, recording.unit_ids, recording.regions,
        np.zeros((len(counts), 0)) if found is None else found.in_bins(recording.edges(bin_s)),
        task=behaviour,
        behaviour_unit="" if found is None else found.unit,
        circular=found is not None and found.circular,
        snr=recording_snr(counts, bin_s),
        start_s=recording.interval[0],
        species=recording.species, modality=recording.modality, subject=recording.subject, data=recording.data,
    )  # fmt: skip


class SpikeShard:
    """Memory-mapped windows of one recording in a file.

    Attributes
    ----------
    counts : ndarray of shape (windows, bins, units)
    behaviour : ndarray of shape (windows, bins, dims)
    starts : ndarray of shape (windows,), in s
    bin_s, snr : float
    name, species, modality, subject, task, behaviour_unit, data : str
    unit_ids, regions : tuple of str
    mean_counts : ndarray of shape (units,)
        Mean spikes per bin over the whole recording.
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
            for key in _TEXTS:
                setattr(self, key, str(file[key]))
            self.starts, self.mean_counts = file["starts"], file["mean_counts"]
            self.bin_s, self.snr = float(file["bin_s"]), float(file["snr"])
            self.circular = bool(file["circular"])
            self.unit_ids, self.regions = (tuple(map(str, file[key])) for key in ("unit_ids", "regions"))
        self._maps()
        length = self.n_bins * self.bin_s
        after = np.searchsorted(self.starts, self.starts + length - self.bin_s / 4)
        found = np.minimum(after, len(self.starts) - 1)
        near = np.abs(self.starts[found] - self.starts - length) < self.bin_s / 2
        self.next_window = np.where(near & (after < len(self.starts)), found, -1)

    def _maps(self) -> None:
        self.counts, self.behaviour = (map_member(self.path, key) for key in ("counts", "behaviour"))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "counts": None, "behaviour": None}  # each worker maps the file itself

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
    shard: SpikeShard, fractions: Sequence[float] = (0.7, 0.15, 0.15), gap_s: float = 0.0
) -> tuple[np.ndarray, ...]:
    """Split the windows of a recording in time: one interval per side, with gaps in between.

    Parameters
    ----------
    shard : SpikeShard
    fractions : (train, val, test)
        Shares of the recording's time, in this order; 0 for no such side.
    gap_s : float
        Smallest gap between the last window of a side and the first of the next, in s.

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
    borders = shard.starts[0] + (ends[-1] - shard.starts[0]) * np.cumsum([0.0, *fractions])
    sides, free_from = [], -np.inf
    for share, begin, end in zip(fractions, borders[:-1], borders[1:], strict=True):
        since = max(begin, free_from) - slack
        side = np.flatnonzero((shard.starts >= since) & (ends <= end + slack)) if share else np.empty(0, int)
        if share and len(side) == 0:
            raise ValueError(
                f"Recording {shard.name}: {len(shard)} windows of {length:g} s, over {ends[-1] - shard.starts[0]:g} s, "
                f"cannot be split as {tuple(fractions)} with {gap_s=}: one side gets none. Use a longer recording, "
                "shorter windows or a smaller gap."
            )
        free_from = ends[side[-1]] + gap_s if len(side) else free_from
        sides.append(side)
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


def _narrow(counts: np.ndarray) -> np.ndarray:
    """Return the counts in the smallest type that holds them."""
    if counts.size and counts.min() < 0:
        raise ValueError(
            f"Counts go down to {counts.min():g}; spikes and events are 0 or more. Do not subtract a baseline."
        )
    if not np.issubdtype(counts.dtype, np.integer):
        return counts.astype(np.float32)
    most = counts.max(initial=0)
    return counts.astype(np.uint8 if most < 256 else np.uint16 if most < 65536 else np.uint32)
