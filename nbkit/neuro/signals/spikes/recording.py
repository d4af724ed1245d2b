"""One recording of spiking units and behaviour.

A unit is identified by the recording's name and its own id, such as `visp-1/17`, so units of different recordings are
never confused. A recording is checked when it is created. Units that never fired are kept, because silence during a
known interval is an observation; `active` removes them. Time that was not observed is masked in the bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nbkit.neuro.signals.spikes.behaviour import Behaviour, first_fall
from nbkit.neuro.signals.spikes.intervals import inside, joined, shared, whole_bins


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
        Recorded time, in s: nothing is known outside it.
    observed : sequence of ndarray of shape (intervals, 2)
        Observed parts of the interval in s, one array for each unit, or one for all; empty if all of it was observed.
        No spike in an observed part means silence; spikes outside are not counted.
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
    observed: tuple[np.ndarray, ...] = ()
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
        if len(self.observed) not in (0, 1, len(ids)):
            raise ValueError(
                f"Recording {self.name}: {len(self.observed)} sets of observed intervals for {len(ids)} units; give "
                "one for each unit, or one for all."
            )
        limits = np.array([[start, stop]])
        object.__setattr__(self, "observed", tuple(shared(joined(part), limits) for part in self.observed))
        for unit, times in zip(ids, self.times, strict=True):
            if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
                raise ValueError(
                    f"Recording {self.name}, unit {unit}: its {times.size} spike times {first_fall(times)}. Spike "
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
        """Mean rate of each unit in its observed time, in Hz."""
        seen = [np.diff(part, axis=1).sum() for part in self.observed] or [self.duration_s]
        counted = [len(times[self._seen(n, times)]) for n, times in enumerate(self.times)]
        return np.array(counted) / np.maximum(np.broadcast_to(seen, len(counted)), 1e-9)

    def _seen(self, unit: int, times: np.ndarray) -> np.ndarray:
        if not self.observed:
            return np.ones(len(times), bool)
        return inside(times, self.observed[unit if len(self.observed) > 1 else 0])

    def within(self, start: float, stop: float) -> SpikeRecording:
        """Return the part from start to stop (s) on the same clock; the interval never becomes larger."""
        start, stop = max(start, self.interval[0]), min(stop, self.interval[1])
        cut = tuple(times[(times >= start) & (times <= stop)] for times in self.times)
        return replace(self, times=cut, interval=(start, stop))

    def keep(self, units: np.ndarray) -> SpikeRecording:
        """Return the recording of some units, selected by a mask or by indices."""
        places = np.arange(len(self.times))[np.asarray(units)]
        pick = [[part[i] for i in places] for part in (self.times, self.unit_ids, self.regions)]
        own = tuple(self.observed[i] for i in places) if len(self.observed) > 1 else self.observed
        return replace(self, times=tuple(pick[0]), unit_ids=tuple(pick[1]), regions=tuple(pick[2]), observed=own)

    def active(self, least_hz: float = 0.0) -> SpikeRecording:
        """Return the recording without units that were silent or had a rate below ``least_hz``."""
        return self.keep((self.rates_hz > 0) & (self.rates_hz >= least_hz))

    def counts(self, bin_s: float) -> np.ndarray:
        """Return spike counts of shape (bins, units), 0 where not observed; an incomplete last bin is left out."""
        edges = self.edges(bin_s)
        return np.stack([_count(times, edges) for times in self.times], axis=1) * self.observed_bins(bin_s)

    def observed_bins(self, bin_s: float) -> np.ndarray:
        """Return which bins were observed as a whole: bool of shape (bins, units), or (bins, 1) if equal for all."""
        edges = self.edges(bin_s)
        if not self.observed:
            return np.ones((len(edges) - 1, 1), bool)
        return np.stack([whole_bins(edges, part) for part in self.observed], axis=1)

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


def _count(times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    place = np.searchsorted(edges, times, side="right") - 1
    return np.bincount(place[(place >= 0) & (place < len(edges) - 1)], minlength=len(edges) - 1)
