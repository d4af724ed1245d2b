"""Cut windows: at a fixed stride, or locked to events.

A window never crosses a gap, and its start is given in the recording's own time. Every window carries what is known of
it: its label, the columns of its event, and the columns of its recording and person, for whatever is to be decoded.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.intake.stretches import sample_of
from nbkit.neuro.signals.intake.tables import number
from nbkit.neuro.signals.windows.cutting import window_labels

_OWN = ("key", "source", "path", "subject", "run", "file")  # columns of a row that say where a recording is


@checked
@dataclass(frozen=True)
class Windowing:
    """How windows are cut.

    Parameters
    ----------
    window_s, stride_s : float
        Length of a window and distance between starts, in s; with events, the length is ``tmax - tmin``.
    events : tuple of (str, str)
        Name of an event, which may have wildcards (``target*``), and the class of its windows; empty for a fixed
        stride.
    tmin, tmax : float
        Start and end of a window, in s from its event.
    baseline : (float, float) or None
        Span, in s from the event, whose mean is subtracted from each channel of a window.
    """

    window_s: float = 5.0
    stride_s: float = 5.0
    events: tuple[tuple[str, str], ...] = ()
    tmin: float = 0.0
    tmax: float = 2.0
    baseline: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.window_s <= 0 or self.stride_s <= 0:
            raise ValueError(f"WINDOW_S={self.window_s} and STRIDE_S={self.stride_s} s must be above 0.")
        if self.events and not self.tmin < self.tmax:
            raise ValueError(f"A window from TMIN={self.tmin} to TMAX={self.tmax} s has no length.")
        if self.baseline is not None and not self.tmin <= self.baseline[0] < self.baseline[1] <= self.tmax:
            raise ValueError(f"BASELINE={self.baseline} must lie in the window from {self.tmin} to {self.tmax} s.")

    def length(self, sfreq: float) -> int:
        """Return the length of a window in samples."""
        seconds = self.tmax - self.tmin if self.events else self.window_s
        return int(round(seconds * sfreq))


@dataclass(frozen=True)
class Cut:
    """Positions of windows in the joined signal, with their columns.

    Parameters
    ----------
    starts : int array of shape (windows,)
    length : int
        In samples.
    columns : mapping of str to array of shape (windows,)
        ``start_s``, ``label`` and what the tables say.
    baselines : (int, int) or None
        First sample and end of the baseline, from the start of a window.
    dropped : int
        Events whose window would cross a gap or an end.
    """

    starts: np.ndarray
    length: int
    columns: Mapping[str, np.ndarray]
    baselines: tuple[int, int] | None = None
    dropped: int = 0


def cut(
    recording: Recording,
    windowing: Windowing,
    row: Mapping[str, str] | None = None,
    spans: Sequence[Mapping[str, str]] = (),
) -> Cut:
    """Return the windows of a recording.

    Parameters
    ----------
    recording : Recording
    windowing : Windowing
    row : mapping, optional
        The recording's row; its further columns go to every window.
    spans : sequence of mapping
        Rows of a table of labels for this recording, see `label_spans`. Its label counts more than the events.

    Raises
    ------
    RecordingError
        If no window fits, or no event has one of the names.
    """
    made = _locked(recording, windowing) if windowing.events else _fixed(recording, windowing)
    columns = dict(made.columns)
    count, seconds = len(made.starts), made.length / recording.sfreq
    for name, value in (row or {}).items():
        if name not in _OWN and name not in columns:
            columns[str(name)] = np.full(count, value)
    for name, values in _span_columns(spans, columns["start_s"], seconds).items():
        columns[name] = values
    kept = {name: _typed(values) for name, values in columns.items()}
    return Cut(made.starts, made.length, kept, made.baselines, made.dropped)


def _fixed(recording: Recording, windowing: Windowing) -> Cut:
    length = windowing.length(recording.sfreq)
    stride = int(round(windowing.stride_s * recording.sfreq))
    if length < 1 or stride < 1:
        raise RecordingError(
            f"Too short: WINDOW_S={windowing.window_s} and STRIDE_S={windowing.stride_s} s at {recording.sfreq:g} Hz "
            f"are {length} and {stride} samples; both need at least one."
        )
    starts, start_s = [], []
    for stretch in recording.stretches:
        own = np.arange(stretch.start, stretch.stop - length + 1, stride)
        starts.append(own)
        start_s.append(stretch.start_s + (own - stretch.start) / recording.sfreq)
    found = np.concatenate(starts) if starts else np.zeros(0, int)
    if not len(found):
        longest = max((s.stop - s.start for s in recording.stretches), default=0) / recording.sfreq
        raise RecordingError(
            f"{_name(recording)}: no window of {windowing.window_s:g} s fits; its longest part without a gap has "
            f"{longest:.2f} s. Set WINDOW_S to at most that, or leave the recording out."
        )
    times = np.concatenate(start_s)
    labels = window_labels(times, length / recording.sfreq, recording.onsets_s, recording.durations_s, recording.labels)
    return Cut(found, length, {"start_s": times, "label": labels})


def _locked(recording: Recording, windowing: Windowing) -> Cut:
    length = windowing.length(recording.sfreq)
    starts, onsets, labels, names, rows, dropped = [], [], [], [], [], 0
    columns = recording.columns or ({},) * len(recording.onsets_s)
    for onset, name, more in zip(recording.onsets_s, recording.labels, columns, strict=True):
        label = next((label for form, label in windowing.events if fnmatch.fnmatchcase(name, form)), None)
        if label is None:
            continue
        start = sample_of(onset + windowing.tmin, recording.stretches, recording.sfreq)
        stretch = next((s for s in recording.stretches if start is not None and s.start <= start < s.stop), None)
        if start is None or stretch is None or start + length > stretch.stop:
            dropped += 1
            continue
        starts.append(start)
        onsets.append(stretch.start_s + (start - stretch.start) / recording.sfreq)
        labels.append(label)
        names.append(name)
        rows.append(more)
    if not starts:
        seen = sorted(set(recording.labels))
        raise RecordingError(
            f"{_name(recording)}: no window could be cut at EVENTS {', '.join(form for form, _ in windowing.events)}: "
            + (f"{dropped} of them lie too near to a gap or an end. " if dropped else "it has none of them. ")
            + f"Its events are {', '.join(seen[:12]) or 'none'}. Change EVENTS, TMIN or TMAX, or leave it out."
        )
    found = {"start_s": np.array(onsets), "label": np.array(labels), "event": np.array(names)}
    for column in dict.fromkeys(name for more in rows for name in more):
        if column not in found and column not in ("trial_type", "sample"):
            found[column] = np.array([more.get(column, "n/a") for more in rows])
    baselines = None
    if windowing.baseline is not None:
        first, last = (int(round((t - windowing.tmin) * recording.sfreq)) for t in windowing.baseline)
        baselines = (first, max(first + 1, last))
    return Cut(np.array(starts), length, found, baselines, dropped)


def _span_columns(spans: Sequence[Mapping[str, str]], start_s: np.ndarray, seconds: float) -> dict[str, np.ndarray]:
    """Return the columns of a table of labels: of each window, those of the span that overlaps it longest."""
    if not spans:
        return {}
    begins = np.array([number(row.get("start_s")) for row in spans])
    ends = np.array([number(row.get("stop_s")) for row in spans])
    begins = np.where(np.isnan(begins), -math.inf, begins)
    ends = np.where(np.isnan(ends), math.inf, ends)
    overlap = np.minimum(ends[None], start_s[:, None] + seconds) - np.maximum(begins[None], start_s[:, None])
    best = overlap.argmax(axis=1)
    covered = overlap[np.arange(len(start_s)), best] > 0.5 * seconds  # a window belongs to the span that has most of it
    names = [name for name in spans[0] if name not in ("recording", "start_s", "stop_s")]
    return {
        name: np.array([spans[b].get(name, "") if ok else "" for b, ok in zip(best, covered, strict=True)])
        for name in names
    }


def _typed(values: np.ndarray) -> np.ndarray:
    """Return a column of text as numbers where every entry is one, or is missing."""
    if values.dtype.kind != "U":
        return values
    missing = np.isin(np.char.lower(np.char.strip(values)), ["", "n/a", "na", "nan", "none"])
    if missing.all():  # nothing is known, or there is nothing
        return (
            values if not values.size or not np.char.strip(values).astype(bool).any() else np.full(len(values), np.nan)
        )
    numbers = np.array([number(value) for value in values])
    return numbers if np.isfinite(numbers[~missing]).all() else np.where(missing, "", values)


def _name(recording: Recording) -> str:
    return recording.facts.file if recording.facts is not None else "The recording"
