"""One recording of spiking units and behaviour.

A unit is identified by the recording's name and its own id, such as `visp-1/17`, so units of different recordings are
never confused. A recording is checked when it is created. Units that never fired are kept, because silence during a
known interval is an observation; `active` removes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

SNR_BIN_S = 0.5
_FEWEST = 10  # spikes needed for an estimate of reliability


@dataclass(frozen=True)
class Behaviour:
    """A behavioural variable that was recorded together with the spikes.

    Attributes
    ----------
    times : ndarray of shape (samples,)
        In s, increasing, on the same clock as the spikes.
    values : ndarray of shape (samples, dims)
        NaN where the variable is not known.
    unit : str
        Unit of the values, such as ``"cm/s"``.
    circular : bool
        Whether it is an angle in rad (one dim): bins hold the circular mean, as cosine and sine.
    """

    times: np.ndarray
    values: np.ndarray
    unit: str
    circular: bool = False

    def __post_init__(self) -> None:
        times, values = np.asarray(self.times, float), np.asarray(self.values, float)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or times.shape != values.shape[:1]:
            raise ValueError(
                f"Behaviour has times {times.shape} and values {values.shape}; give times (samples,) and values "
                "(samples, dims)."
            )
        if len(times) == 0 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError(
                f"Behaviour needs one sample or more at increasing times; these {len(times)} "
                f"{_first_fall(times)}. Sort them, or remove duplicates."
            )
        if self.circular and values.shape[1] != 1:
            raise ValueError(f"A circular behaviour has one dim, an angle in rad; this has {values.shape[1]}.")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "values", values)

    def in_bins(self, edges: np.ndarray) -> np.ndarray:
        """Return the mean in each bin; bins between two close samples are interpolated.

        Parameters
        ----------
        edges : ndarray of shape (bins + 1,)
            In s.

        Returns
        -------
        values : ndarray of shape (bins, dims), or (bins, 2) with cosine and sine if circular
            NaN where no sample is near.
        """
        values = self.values
        if self.circular:
            values = np.concatenate([np.cos(values), np.sin(values)], axis=1)
        known = np.isfinite(values).all(axis=1)
        out = np.full((len(edges) - 1, values.shape[1]), np.nan)
        times, values = self.times[known], values[known]
        if len(times) == 0:
            return out
        place = np.searchsorted(edges, times, side="right") - 1
        inside = (place >= 0) & (place < len(out))
        count = np.bincount(place[inside], minlength=len(out))
        for dim in range(values.shape[1]):
            total = np.bincount(place[inside], weights=values[inside, dim], minlength=len(out))
            np.divide(total, count, out=out[:, dim], where=count > 0)
        centres = (edges[1:] + edges[:-1]) / 2
        after = np.searchsorted(times, centres)
        gap = 2.5 * np.median(np.diff(times)) if len(times) > 1 else 0.0
        between = (count == 0) & (after > 0) & (after < len(times))
        between[between] &= times[after[between]] - times[after[between] - 1] <= gap
        for dim in range(values.shape[1]):
            out[between, dim] = np.interp(centres[between], times, values[:, dim])
        if self.circular:
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        return out


@dataclass(frozen=True)
class SpikeRecording:
    """Spikes of some units in one interval of time.

    Attributes
    ----------
    name : str
        Name of the recording; with the id, it identifies a unit.
    times : sequence of ndarray of shape (spikes,)
        Spike times of each unit, in s, never decreasing.
    unit_ids : sequence of str
        Unique ids of the units.
    interval : (start, stop)
        Recorded time, in s: nothing is known outside it, and no spike inside it means silence.
    regions : sequence of str
        One per unit, or one for all.
    species, modality, subject : str
        Such as ``"mouse"`` and ``"neuropixels"``.
    behaviour : mapping of str to Behaviour
    data : str
        ``"real"``, or the description of synthetic data.

    Raises
    ------
    ValueError
        If there is no unit, an id is repeated, times decrease or are not finite, or a spike is outside the interval.
    """

    name: str
    times: tuple[np.ndarray, ...]
    unit_ids: tuple[str, ...]
    interval: tuple[float, float]
    regions: tuple[str, ...] = ("",)
    species: str = "unknown"
    modality: str = "unknown"
    subject: str = ""
    behaviour: Mapping[str, Behaviour] = field(default_factory=dict)
    data: str = "real"

    def __post_init__(self) -> None:
        ids = tuple(str(unit) for unit in self.unit_ids)
        regions = tuple(self.regions) * (len(ids) if len(self.regions) == 1 else 1)
        object.__setattr__(self, "unit_ids", ids)
        object.__setattr__(self, "regions", regions)
        object.__setattr__(self, "times", tuple(np.asarray(times, float) for times in self.times))
        self._check_units()
        start, stop = self.interval
        if not (np.isfinite([start, stop]).all() and start < stop):
            raise ValueError(
                f"Recording {self.name}: interval {self.interval} s is not valid; give (start, stop) with start < stop."
            )
        for unit, times in zip(ids, self.times, strict=True):
            if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
                raise ValueError(
                    f"Recording {self.name}, unit {unit}: its {times.size} spike times {_first_fall(times)}. Spike "
                    "times are in s and never decrease; sort them if their order has no meaning, else check the clock."
                )
            if len(times) and (times[0] < start or times[-1] > stop):
                outside = int(((times < start) | (times > stop)).sum())
                raise ValueError(
                    f"Recording {self.name}, unit {unit}: {outside} of {len(times)} spikes lie outside the observed "
                    f"interval {start:g} to {stop:g} s (they run from {times[0]:g} to {times[-1]:g} s). Give the "
                    "recorded interval, or remove those spikes."
                )

    def _check_units(self) -> None:
        ids = self.unit_ids
        if not self.name or "/" in self.name:
            raise ValueError(
                f"Invalid name {self.name!r} of a recording: it is part of the units' names; give a text without '/'."
            )
        if not ids or not self.times:
            raise ValueError(
                f"Recording {self.name} has no unit ({len(self.times)} spike trains, {len(ids)} ids). Leave it "
                "out of the manifest, or give the file that holds the sorted units."
            )
        if not len(ids) == len(self.times) == len(self.regions):
            raise ValueError(
                f"Recording {self.name}: {len(self.times)} spike trains, {len(ids)} ids and {len(self.regions)} "
                "regions; each unit needs one of each."
            )
        names, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            twice = names[counts > 1]
            raise ValueError(
                f"Recording {self.name}: unit ids {', '.join(twice[:5])} are repeated ({len(twice)} of "
                f"{len(names)}). Add a prefix to ids of several probes, such as probe00-17."
            )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        spike_times: np.ndarray,
        spike_units: np.ndarray,
        *,
        units: Sequence[Any] | None = None,
        interval: tuple[float, float] | None = None,
        **facts: Any,
    ) -> SpikeRecording:
        """Return a recording from one list of spikes and the unit of each, as spike sorters write them.

        Parameters
        ----------
        name : str
        spike_times : ndarray of shape (spikes,)
            In s, never decreasing within a unit.
        spike_units : ndarray of shape (spikes,)
        units : sequence, optional
            All units, including silent ones; by default those that fired.
        interval : (start, stop), optional
            In s; by default from the first to the last spike.
        **facts
            Further attributes.

        Raises
        ------
        ValueError
            If there is no spike and no interval, lengths differ, or a spike belongs to a unit that ``units`` lacks.
        """
        spike_times, spike_units = np.asarray(spike_times, float), np.asarray(spike_units)
        if spike_times.shape != spike_units.shape or spike_times.ndim != 1:
            raise ValueError(
                f"Recording {name}: {spike_times.shape} times and {spike_units.shape} units; give one unit per spike."
            )
        if len(spike_times) == 0 and (interval is None or units is None):
            raise ValueError(
                f"Recording {name} is empty: there is no spike, and units and interval are unknown. Leave it out, or "
                "give `units` and `interval` if all units were silent."
            )
        names = list(np.unique(spike_units) if units is None else units)
        strangers = sorted({str(unit) for unit in np.unique(spike_units)} - {str(unit) for unit in names})
        if strangers:
            raise ValueError(
                f"Recording {name}: spikes of units {', '.join(strangers[:5])} ({len(strangers)}), which are not among "
                f"the {len(names)} given units."
            )
        order = np.argsort(
            spike_units, kind="stable"
        )  # stable, so that the check of each unit's order sees the original order
        kinds, begins = np.unique(spike_units[order], return_index=True)
        trains = dict(zip(map(str, kinds), np.split(spike_times[order], begins[1:]), strict=True)) if len(kinds) else {}
        if interval is None:
            interval = float(spike_times.min()), float(spike_times.max())
        return cls(
            name, tuple(trains.get(str(unit), np.empty(0)) for unit in names), tuple(map(str, names)), interval, **facts
        )

    @property
    def duration_s(self) -> float:
        return self.interval[1] - self.interval[0]

    @property
    def rates_hz(self) -> np.ndarray:
        """Mean rate of each unit, in Hz."""
        return np.array([len(times) for times in self.times]) / self.duration_s

    def within(self, start: float, stop: float) -> SpikeRecording:
        """Return the part from start to stop (s) on the same clock; the interval never becomes larger."""
        start, stop = max(start, self.interval[0]), min(stop, self.interval[1])
        cut = tuple(times[(times >= start) & (times <= stop)] for times in self.times)
        return replace(self, times=cut, interval=(start, stop))

    def keep(self, units: np.ndarray) -> SpikeRecording:
        """Return the recording of some units, selected by a mask or by indices."""
        places = np.arange(len(self.times))[np.asarray(units)]
        pick = [[part[i] for i in places] for part in (self.times, self.unit_ids, self.regions)]
        return replace(self, times=tuple(pick[0]), unit_ids=tuple(pick[1]), regions=tuple(pick[2]))

    def active(self, least_hz: float = 0.0) -> SpikeRecording:
        """Return the recording without units that were silent or had a rate below ``least_hz``."""
        return self.keep((self.rates_hz > 0) & (self.rates_hz >= least_hz))

    def counts(self, bin_s: float) -> np.ndarray:
        """Return spike counts of shape (bins, units); an incomplete last bin is left out."""
        edges = self.edges(bin_s)
        return np.stack([_count(times, edges) for times in self.times], axis=1)

    def edges(self, bin_s: float) -> np.ndarray:
        """Return the edges of the bins, in s.

        Raises
        ------
        ValueError
            If the recording is shorter than one bin.
        """
        bins = int((self.duration_s + 1e-9) / bin_s) if bin_s > 0 else 0
        if bins < 1:
            raise ValueError(f"Recording {self.name} lasts {self.duration_s:g} s, less than one bin of {bin_s=} s.")
        return self.interval[0] + bin_s * np.arange(bins + 1)


def unit_reliability(counts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Compute the split-half reliability of each unit, from 0 to 1.

    Each spike goes into one of two halves at random. The counts of the halves correlate over bins as far as the rate
    changes, and not at all for a constant Poisson rate. The Spearman-Brown formula converts the correlation r of the
    halves to that of the whole, 2 r / (1 + r). For Poisson spikes this is the share of the counts' variance that the
    rate explains. It grows with the length of a bin, so compare only values for equal bins.

    Parameters
    ----------
    counts : int array of shape (bins, units)
    seed : int
        Seed of the random halves.

    Returns
    -------
    reliability : ndarray of shape (units,)
        NaN for units with fewer than 10 spikes.
    """
    counts = np.asarray(counts)
    first = np.random.default_rng(seed).binomial(counts, 0.5)
    a, b = (half - half.mean(axis=0) for half in (first, counts - first))
    spread = np.sqrt((a**2).mean(axis=0) * (b**2).mean(axis=0))
    r = np.divide((a * b).mean(axis=0), spread, out=np.zeros(counts.shape[1]), where=spread > 0)
    r = np.clip(r, 0.0, 1.0)
    return np.where(counts.sum(axis=0) >= _FEWEST, 2 * r / (1 + r), np.nan)


def recording_snr(counts: np.ndarray, bin_s: float, seed: int = 0) -> float:
    """Return the mean `unit_reliability` of a recording's units in bins of 0.5 s; 0 if no unit has one.

    Parameters
    ----------
    counts : int array of shape (bins, units)
    bin_s : float
        Bin of the counts, in s; counts are summed to bins of 0.5 s, longer bins are kept.
    seed : int
        Seed of the random halves.
    """
    together = max(1, round(SNR_BIN_S / bin_s))
    whole = len(counts) // together * together
    if whole == 0:
        return 0.0
    values = unit_reliability(np.asarray(counts)[:whole].reshape(-1, together, counts.shape[1]).sum(axis=1), seed)
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _count(times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    place = np.searchsorted(edges, times, side="right") - 1
    return np.bincount(place[(place >= 0) & (place < len(edges) - 1)], minlength=len(edges) - 1)


def _first_fall(times: np.ndarray) -> str:
    """Describe the first error in times."""
    times = np.asarray(times, float)
    if times.ndim != 1 or len(times) == 0:
        return f"are of shape {times.shape}"
    bad = ~np.isfinite(times)
    if bad.any():
        return f"hold {int(bad.sum())} that are not finite, the first at index {int(bad.argmax())}"
    falls = np.flatnonzero(np.diff(times) <= 0)
    if len(falls) == 0:
        return "do increase"
    place = int(falls[0])
    return f"go from {times[place]:.6g} to {times[place + 1]:.6g} s at index {place + 1}"
