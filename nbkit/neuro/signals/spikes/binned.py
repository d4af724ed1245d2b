"""Binned recordings: activity of all units in bins of equal length, which bins were observed, and one behaviour.

The activity is spike counts, sizes of deconvolved events, or traces such as dF/F. Units keep their recording's name, so
that none are confused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nbkit.neuro.signals.spikes.recording import SpikeRecording
from nbkit.neuro.signals.spikes.reliability import recording_snr

SPIKES, EVENTS, TRACE = "spikes", "events", "trace"
"""Kinds of activity: counts; sizes of events, 0 or more; a trace that may be negative, such as dF/F."""
TEXTS = ("name", "species", "modality", "subject", "task", "behaviour_unit", "activity", "data")


@dataclass(frozen=True)
class BinnedRecording:
    """Binned activity of a recording, with at most one behaviour.

    Attributes
    ----------
    name : str
    counts : ndarray of shape (bins, units)
        Spikes per bin; for imaging, the size of events per bin (0 or more), or the mean of the trace.
    bin_s : float
        Length of a bin, in s.
    unit_ids, regions : sequence of str
        One per unit.
    behaviour : ndarray of shape (bins, dims)
        NaN if unknown; 0 dims without behaviour. Cosine and sine if ``circular``; 1 for the class of a bin and 0 for
        the others if there are ``classes``.
    observed : bool ndarray of shape (bins, units), or (bins, 1) if equal for all units; optional
        False where nothing is known; by default all is observed.
    parts : int ndarray of shape (parts, 2), optional
        First bin, and the one after the last, of trials: windows are cut inside them. By default one part.
    task : str
        Name of the behaviour; "" for none.
    behaviour_unit : str
    classes : sequence of str
        Names of the classes of a behaviour that is a class; empty otherwise.
    circular : bool
    snr : float
        See `recording_snr`.
    start_s : float
    activity : {"spikes", "events", "trace"}
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
    observed: np.ndarray | None = None
    parts: np.ndarray | None = None
    task: str = ""
    behaviour_unit: str = ""
    classes: tuple[str, ...] = ()
    circular: bool = False
    snr: float = 0.0
    start_s: float = 0.0
    activity: str = SPIKES
    species: str = "unknown"
    modality: str = "unknown"
    subject: str = ""
    data: str = "real"
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def seen(self) -> np.ndarray:
        """Which bins were observed, bool of shape (bins, units or 1)."""
        return np.ones((len(self.counts), 1), bool) if self.observed is None else self.observed

    def keep(self, units: np.ndarray) -> BinnedRecording:
        """Return the recording of some units, selected by a mask or by indices; raise ValueError if none is left."""
        places = np.arange(len(self.unit_ids))[np.asarray(units)]
        if len(places) == 0:
            raise ValueError(f"Recording {self.name}: no unit is left of {len(self.unit_ids)}. Keep more of them.")
        observed = self.observed if self.observed is None or self.observed.shape[1] == 1 else self.observed[:, places]
        ids, regions = (tuple(part[i] for i in places) for part in (self.unit_ids, self.regions))
        return replace(self, counts=self.counts[:, places], observed=observed, unit_ids=ids, regions=regions)

    def windows(self, n_bins: int, stride: int | None = None) -> dict[str, Any]:
        """Return windows and metadata as the arrays that a work item saves.

        Windows in which no unit was observed are left out, and behaviour is NaN in bins that no unit was observed in.

        Parameters
        ----------
        n_bins : int
            Bins of a window.
        stride : int, optional
            Bins between starts; by default ``n_bins``, without overlap.

        Returns
        -------
        arrays : dict
            ``counts`` (windows, bins, units), ``observed`` (windows, bins, units or 1), ``behaviour`` (windows, bins,
            dims), ``starts`` (windows,) in s, and the recording's metadata.

        Raises
        ------
        ValueError
            If no part of the recording is as long as a window.
        """
        stride, seen = stride or n_bins, self.seen
        parts = np.array([[0, len(self.counts)]]) if self.parts is None else np.asarray(self.parts)
        firsts = np.concatenate([np.arange(first, last - n_bins + 1, stride) for first, last in parts])
        if len(firsts) == 0:
            longest = int(np.diff(parts, axis=1).max(initial=0))
            raise ValueError(
                f"Recording {self.name} has {longest} bins of {self.bin_s:g} s"
                f"{'' if self.parts is None else ' in its longest trial'}, a window {n_bins}: none fits. Use shorter "
                "windows or bins, or leave the recording out."
            )
        places = firsts[:, None] + np.arange(n_bins)
        kept = seen[places].any(axis=(1, 2))
        if not kept.any():
            raise ValueError(
                f"Recording {self.name}: no unit was observed in any window. Check the observed intervals."
            )
        firsts, places = firsts[kept], places[kept]
        known = np.where(seen.any(axis=1, keepdims=True), np.asarray(self.behaviour, np.float32), np.nan)
        total = np.where(seen, np.asarray(self.counts, float), 0.0).sum(axis=0)
        return {
            "counts": _narrow(self.counts, self.activity)[places],
            "observed": seen[places],
            "behaviour": known.astype(np.float32)[places],
            "starts": self.start_s + self.bin_s * firsts,
            "bin_s": np.float64(self.bin_s),
            "unit_ids": np.array(self.unit_ids),
            "regions": np.array(self.regions),
            "classes": np.array(self.classes, dtype=str),
            "circular": np.bool_(self.circular),
            "snr": np.float64(self.snr),
            "mean_counts": total / np.maximum(np.broadcast_to(seen, self.counts.shape).sum(axis=0), 1),
            **{name: np.array(getattr(self, name)) for name in TEXTS},
            **{f"truth_{name}": np.asarray(value) for name, value in self.truth.items()},
        }


def bin_recording(recording: SpikeRecording, bin_s: float, behaviour: str = "") -> BinnedRecording:
    """Count the spikes of a recording in bins, with one behaviour on the same bins.

    Raises
    ------
    ValueError
        If the recording does not have this behaviour, or is shorter than a bin.
    """
    counts, observed = recording.counts(bin_s), recording.observed_bins(bin_s)
    if behaviour and behaviour not in recording.behaviour:
        raise ValueError(
            f"Recording {recording.name} has no behaviour {behaviour!r}; it has "
            f"{', '.join(recording.behaviour) or 'none'}. Name it when you load the recording."
        )
    found = recording.behaviour[behaviour] if behaviour else None
    return BinnedRecording(
        recording.name, counts, bin_s, recording.unit_ids, recording.regions,
        np.zeros((len(counts), 0)) if found is None else found.in_bins(recording.edges(bin_s)),
        observed=observed,
        task=behaviour,
        behaviour_unit="" if found is None else found.unit,
        circular=found is not None and found.circular,
        snr=recording_snr(counts, bin_s, observed=observed),
        start_s=recording.interval[0],
        species=recording.species, modality=recording.modality, subject=recording.subject, data=recording.data,
    )  # fmt: skip


def _narrow(counts: np.ndarray, activity: str) -> np.ndarray:
    """Return the counts in the smallest type that holds them."""
    if activity == TRACE:
        return counts.astype(np.float32)
    if counts.size and counts.min() < 0:
        raise ValueError(
            f"Counts go down to {counts.min():g}; spikes and events are 0 or more. Do not subtract a baseline."
        )
    if not np.issubdtype(counts.dtype, np.integer):
        return counts.astype(np.float32)
    most = counts.max(initial=0)
    return counts.astype(np.uint8 if most < 256 else np.uint16 if most < 65536 else np.uint32)
