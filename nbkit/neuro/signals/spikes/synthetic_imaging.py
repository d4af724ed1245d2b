"""Simulate two-photon imaging of a simulated population.

Deconvolved calcium events are fewer than the spikes, come late and have sizes instead of counts. Each spike is detected
with some probability, delayed by an exponential time, and gets a size of mean 1. Tuning, units and behaviour do not
change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.spikes.binned import BinnedRecording
from nbkit.neuro.signals.spikes.reliability import recording_snr

STAND_IN = "synthetic stand-in: simulated spikes seen as calcium events; nothing was imaged"


@checked
@dataclass(frozen=True)
class ImagingSettings:
    """Settings of the simulated imaging."""

    seen: float = 0.6  # probability that a spike leaves an event
    delay_s: float = 0.08  # mean of the exponential delay of indicator and deconvolution
    size_spread: float = 0.5  # standard deviation of an event's size; its mean is 1


def as_two_photon(
    recording: BinnedRecording, settings: ImagingSettings | None = None, seed: int = 0
) -> BinnedRecording:
    """Return a recording with two-photon events in place of its spikes.

    Parameters
    ----------
    recording : BinnedRecording
        With integer spike counts.
    settings : ImagingSettings, optional
    seed : int
        Seed of the random numbers, together with the recording's name.

    Returns
    -------
    recording : BinnedRecording
        ``counts`` holds event sizes per bin, 0 or more. The known truth is removed, because it is about spikes.

    Raises
    ------
    ValueError
        If counts are not integers, or the probability is not between 0 and 1.
    """
    s = settings or ImagingSettings()
    counts = np.asarray(recording.counts)
    if not 0 < s.seen <= 1 or s.delay_s < 0:
        raise ValueError(
            f"Invalid settings: seen is {s.seen} and delay_s {s.delay_s}; give a probability above 0, at most 1, and "
            "a delay of 0 s or more."
        )
    if (counts != np.round(counts)).any() or counts.min(initial=0) < 0:
        raise ValueError(f"Recording {recording.name} holds no spike counts; imaging is simulated from spikes.")
    random = np.random.default_rng([seed, *recording.name.encode()])
    events = _delayed(random.binomial(counts.astype(int), s.seen), s.delay_s / recording.bin_s, random)
    sizes = events.astype(float)
    if s.size_spread:
        shape = 1 / s.size_spread**2
        sizes = np.where(events > 0, random.gamma(shape * np.maximum(events, 1), 1 / shape), 0.0)
    return replace(
        recording, counts=sizes.astype(np.float32), modality="two-photon", data=STAND_IN,
        snr=recording_snr(events, recording.bin_s), truth={},
    )  # fmt: skip


def _delayed(events: np.ndarray, mean_bins: float, random: np.random.Generator) -> np.ndarray:
    """Delay events by geometric numbers of bins with a given mean; events after the end are lost."""
    if mean_bins == 0:
        return events
    leave, waiting, out = 1 / (1 + mean_bins), np.zeros_like(events[0]), np.zeros_like(events)
    for place, new in enumerate(events):
        waiting = waiting + new
        out[place] = random.binomial(waiting, leave)
        waiting = waiting - out[place]
    return out
