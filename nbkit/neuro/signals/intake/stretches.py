"""Stretches: the parts of a recording between gaps.

A recording is cut where it was interrupted (EDF+D, boundaries, new segments) and at spans that are marked as bad.
Filters and windows stay inside one stretch, and every stretch keeps its own time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbkit.neuro.signals.intake.facts import Stretch
from nbkit.neuro.signals.intake.opened import Mark, is_break, is_quality


def find_stretches(
    n_times: int, sfreq: float, marks: Sequence[Mark], breaks: Sequence[tuple[int, float]] = ()
) -> tuple[Stretch, ...]:
    """Return the stretches of a recording in their order.

    Parameters
    ----------
    n_times : int
        Samples of the joined signal.
    sfreq : float
        In Hz.
    marks : sequence of Mark
        In the recording's own time.
    breaks : sequence of (int, float)
        First sample and time of each part of an interrupted recording.
    """
    parts = list(breaks) or [(0, 0.0)]
    ends = [start for start, _ in parts[1:]] + [n_times]
    good = np.ones(n_times, bool)
    cuts = {start for start, _ in parts}
    for mark in marks:
        if is_quality(mark.text) or is_break(mark.text):
            for (start, start_s), end in zip(parts, ends, strict=True):
                # in samples of this part; a mark outside it is clipped away
                begin = start + (mark.onset_s - start_s) * sfreq
                first = int(np.floor(round(begin, 6)))
                if is_break(mark.text):
                    at = int(round(begin))
                    cuts |= {at} if start < at < end else set()
                if is_quality(mark.text) and mark.duration_s > 0:
                    last = int(np.ceil(round(begin + mark.duration_s * sfreq, 6)))
                    good[max(first, start) : max(start, min(last, end))] = False
    edges = sorted({0, n_times, *cuts, *(np.flatnonzero(np.diff(good)) + 1).tolist()})
    found = []
    for first, stop in zip(edges[:-1], edges[1:], strict=True):
        if good[first]:
            start, start_s = max(part for part in parts if part[0] <= first)
            found.append(Stretch(first, stop, start_s + (first - start) / sfreq))
    return tuple(found)


def sample_of(time_s: float, stretches: Sequence[Stretch], sfreq: float) -> int | None:
    """Return the sample at a time of the recording; None if nothing was recorded or kept there."""
    for stretch in stretches:
        at = stretch.start + int(round((time_s - stretch.start_s) * sfreq))
        if stretch.start <= at < stretch.stop:
            return at
    return None
