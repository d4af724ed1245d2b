"""Two-photon and other calcium imaging: traces of ROIs as binned recordings.

A trace (dF/F) may be negative and has no counts; deconvolved events are sizes of 0 or more. Bins without a frame, and
values that are not finite, were not observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.spikes.binned import EVENTS, TRACE, BinnedRecording
from nbkit.neuro.signals.spikes.intervals import whole_bins, without
from nbkit.neuro.signals.spikes.nwb import chosen_intervals, opened, subject_fact, table_intervals
from nbkit.neuro.signals.spikes.nwb_series import behaviour_of, roi_series, times_of
from nbkit.neuro.signals.spikes.reliability import recording_snr

_EVENT_WORDS = ("deconv", "event", "spike")
_CELL_COLUMNS = ("iscell", "is_cell", "Accepted", "accepted")


def load_imaging(
    path: str | Path,
    bin_s: float,
    *,
    name: str = "",
    series: str = "",
    behaviour: str = "",
    interval: tuple[float, float] | None = None,
    within: str = "",
    species: str = "",
    notes: list[str] | None = None,
) -> BinnedRecording:
    """Load a RoiResponseSeries of an NWB file and bin it.

    Parameters
    ----------
    path : path
    bin_s : float
        Length of a bin in s, at least the time between two frames.
    name : str
        Name of the recording; by default the file name.
    series : str
        Name or path of the series; by default the only one, or the only one in DfOverF.
    behaviour, interval, within, species, notes
        As in `nbkit.neuro.signals.spikes.nwb.load_nwb`; one behaviour.

    Returns
    -------
    recording : BinnedRecording

    Raises
    ------
    FileNotFoundError, RecordingError
        As in `load_nwb`, or if there is no such series, or a bin is shorter than a frame.
    """
    notes = [] if notes is None else notes
    with opened(path, notes) as file:
        path = Path(path)
        found = roi_series(file, series, path)
        data = np.asarray(found.data[:], float)
        data = data[:, None] if data.ndim == 1 else data
        times = times_of(found, len(data))
        ids, cells = _rois(found, data.shape[1], notes)
        data = data[:, cells]
        activity = EVENTS if any(word in found.name.lower() for word in _EVENT_WORDS) else TRACE
        known = None if not behaviour else behaviour_of(file, behaviour, path, notes)
        start, stop = interval or _span(times, known)
        edges = start + bin_s * np.arange(int((stop - start + 1e-9) / bin_s) + 1)
        counts, observed = bin_trace(times, data, edges, activity, path.name)
        allowed = chosen_intervals(file, within, (start, stop), notes, path)
        observed &= whole_bins(edges, without(allowed, table_intervals(file.invalid_times)))[:, None]
        counts = np.where(observed, counts, 0.0)
        return BinnedRecording(
            name or path.stem, counts, bin_s, ids, ("",) * len(ids),
            np.zeros((len(counts), 0)) if known is None else known.in_bins(edges),
            observed=observed,
            task=behaviour,
            behaviour_unit="" if known is None else known.unit,
            circular=known is not None and known.circular,
            snr=recording_snr(counts, bin_s, observed=observed, is_trace=True),
            start_s=start,
            activity=activity,
            species=species or subject_fact(file, "species") or "unknown",
            modality="two-photon",
            subject=subject_fact(file, "subject_id"),
        )  # fmt: skip


def bin_trace(
    times: np.ndarray, data: np.ndarray, edges: np.ndarray, activity: str, file: str
) -> tuple[np.ndarray, np.ndarray]:
    """Average the frames of a trace in bins, or add up events.

    Parameters
    ----------
    times : ndarray of shape (frames,)
        In s.
    data : ndarray of shape (frames, units)
    edges : ndarray of shape (bins + 1,)
        In s.
    activity : {"trace", "events"}
    file : str
        For messages.

    Returns
    -------
    values, observed : ndarray of shape (bins, units)

    Raises
    ------
    RecordingError
        If a bin is shorter than the time between two frames.
    """
    frame = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    bin_s = float(edges[1] - edges[0])
    if bin_s < 0.99 * frame:
        raise RecordingError(
            f"{file}: a frame takes {frame:.4g} s, a bin has {bin_s:g} s, so most bins would be empty. Use bins of "
            f"{frame:.4g} s or more."
        )
    place = np.searchsorted(edges, times + 1e-6, side="right") - 1
    inside = np.isfinite(times) & (place >= 0) & (place < len(edges) - 1)
    known = np.isfinite(data[inside])
    total, count = np.zeros((len(edges) - 1, data.shape[1])), np.zeros((len(edges) - 1, data.shape[1]))
    np.add.at(total, place[inside], np.where(known, data[inside], 0.0))
    np.add.at(count, place[inside], known)
    # A bin may have one frame more or fewer than the next one, so a sum of events is scaled to the length of the bin.
    values = total / np.maximum(count, 1) * (bin_s / frame if activity == EVENTS and frame else 1.0)
    return values, count > 0


def trials_recording(
    name: str, data: np.ndarray, times: np.ndarray, labels: Sequence[Any] | None, *, task: str = "", **facts: Any
) -> BinnedRecording:
    """Return trials of traces as a recording: windows are cut inside trials, and bins between trials are not observed.

    Parameters
    ----------
    name : str
    data : ndarray of shape (trials, units, samples)
    times : ndarray of shape (samples,)
        In s from the stimulus; labels hold from 0 on.
    labels : sequence, optional
        Class of each trial.
    task : str
        Name of the labels.
    **facts
        Further attributes of the recording.
    """
    trials, units, samples = data.shape
    bin_s, length = float(np.median(np.diff(times))), samples + 1
    counts = np.zeros((trials, length, units), np.float32)
    observed = np.zeros((trials, length, units), bool)
    finite = np.isfinite(data.transpose(0, 2, 1))
    observed[:, :samples] = finite
    counts[:, :samples] = np.where(finite, data.transpose(0, 2, 1), 0.0)
    behaviour, classes = np.full((trials, length, 0), np.nan, np.float32), ()
    if labels is not None:
        kinds = sorted(set(labels), key=lambda label: (str(type(label)), label))
        classes = tuple(f"{kind:g}" if isinstance(kind, float) else str(kind) for kind in kinds)
        behaviour = np.full((trials, length, len(kinds)), np.nan, np.float32)
        for trial, label in enumerate(labels):
            behaviour[trial, :samples][times >= -1e-6] = np.eye(len(kinds), dtype=np.float32)[kinds.index(label)]
    flat = counts.reshape(-1, units)
    seen = observed.reshape(-1, units)
    seen = seen if not observed[:, :samples].all() else seen[:, :1]
    firsts = length * np.arange(trials)
    return BinnedRecording(
        name, flat, bin_s, tuple(f"roi{n}" for n in range(units)), ("",) * units,
        behaviour.reshape(len(flat), -1), observed=seen, parts=np.stack([firsts, firsts + samples], axis=1),
        task=task if labels is not None else "", behaviour_unit="class" if labels is not None else "", classes=classes,
        snr=recording_snr(flat, bin_s, observed=seen, is_trace=True), activity=TRACE, **facts,
    )  # fmt: skip


def _span(times: np.ndarray, known: Any) -> tuple[float, float]:
    good = times[np.isfinite(times)]
    frame = float(np.median(np.diff(good)))
    start, stop = float(good[0]), float(good[-1]) + frame
    if known is not None:
        start, stop = max(start, float(known.times[0])), min(stop, float(known.times[-1]))
    return start, stop


def _rois(found: Any, count: int, notes: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the ids of the ROIs that are cells, and their places."""
    table, rows = found.rois.table, np.asarray(found.rois.data[:])
    ids = [str(table.id[int(row)]) for row in rows]
    column = next((name for name in _CELL_COLUMNS if name in table.colnames), None)
    cells = np.ones(count, bool)
    if column is not None:
        values = np.array([np.ravel(np.asarray(table[column][int(row)], float))[0] for row in rows])
        cells = values > 0.5
        notes.append(f"left out {int((~cells).sum())} of {count} ROIs that are no cells ({column})")
    return tuple(unit for unit, keep in zip(ids, cells, strict=True) if keep), np.flatnonzero(cells)
