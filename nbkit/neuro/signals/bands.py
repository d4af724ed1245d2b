"""Cumulative frequency bands of a signal.

The last level equals the signal filtered once from the lowest to the highest edge. Neighbouring bands share one edge,
one transition width and one filter length, so nothing between them is counted twice or lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

Band = tuple[float, float]

DEFAULT_BANDS: tuple[Band, ...] = ((0.5, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 50.0))

_NAMES = {(0.5, 4.0): "delta", (4.0, 8.0): "theta", (8.0, 13.0): "alpha", (13.0, 30.0): "beta"}
_NYQUIST_ROOM = 0.49  # largest upper edge / sfreq: mne rejects one at Nyquist, such as 50 Hz at 100 Hz
_HAMMING_LENGTH = 3.3  # length of a Hamming-windowed filter in transition widths, as in mne


def band_names(bands: Sequence[Band]) -> tuple[str, ...]:
    """Return a short name for each band: delta, theta, alpha, beta, gamma, or its edges.

    Parameters
    ----------
    bands : sequence of (l_freq, h_freq)
        Edges in Hz.

    Examples
    --------
    >>> band_names([(0.5, 4.0), (30.0, 49.0), (9.0, 11.0)])
    ('delta', 'gamma', '9-11Hz')
    """
    edges = [(round(float(low), 3), round(float(high), 3)) for low, high in bands]
    return tuple(_NAMES.get(e, "gamma" if e[0] == 30.0 else f"{e[0]:g}-{e[1]:g}Hz") for e in edges)


def effective_bands(bands: Sequence[Band], sfreq: float) -> tuple[Band, ...]:
    """Return the bands that a sampling rate allows: upper edges are limited to 0.49 of it.

    Parameters
    ----------
    bands : sequence of (l_freq, h_freq)
        Edges in Hz, each with ``0 <= l_freq < h_freq``.
    sfreq : float
        Sampling rate, in Hz.

    Raises
    ------
    ValueError
        If there is no band, or a band is empty, has its edges swapped, or starts above 0.49 of the sampling rate.

    Examples
    --------
    >>> effective_bands([(13.0, 30.0), (30.0, 50.0)], sfreq=100.0)
    ((13.0, 30.0), (30.0, 49.0))
    """
    if not np.isfinite(sfreq) or sfreq <= 0:
        raise ValueError(f"The value sfreq={sfreq!r} is not a sampling rate; give Hz, such as 100.0.")
    if len(bands) == 0:
        raise ValueError("The list bands is empty; give at least one (l_freq, h_freq) in Hz, such as (0.5, 4.0).")
    ceiling = _NYQUIST_ROOM * sfreq
    effective = []
    for low, high in bands:
        low, high = float(low), float(high)
        if not (np.isfinite(low) and np.isfinite(high) and 0 <= low < high):
            raise ValueError(f"Band ({low:g}, {high:g}) Hz is no band; 0 <= l_freq < h_freq is needed.")
        if low >= ceiling:
            raise ValueError(
                f"Band ({low:g}, {high:g}) Hz begins above {ceiling:g} Hz, the highest edge at sfreq={sfreq:g} Hz. "
                f"Leave it out, or read the recording at {2.1 * high:g} Hz or more."
            )
        effective.append((low, min(high, ceiling)))
    return tuple(effective)


def cumulative_frequency_levels(signal: np.ndarray, sfreq: float, bands: Sequence[Band] = DEFAULT_BANDS) -> np.ndarray:
    """Compute the running sum of a signal's bands, lowest first.

    Each band is a zero-phase FIR filter (Hamming window, firwin design, by mne). Filter the continuous recording and
    cut the result: the filter is 6.6 s long for a band that starts at 0.5 Hz, and a shorter segment is extended by
    mirrored samples, which were not recorded.

    Parameters
    ----------
    signal : array of shape (channels, time)
        In any unit; the result has the same.
    sfreq : float
        Sampling rate, in Hz.
    bands : sequence of (l_freq, h_freq)
        Edges, in Hz; upper edges are limited to 0.49 of ``sfreq`` (see `effective_bands`).

    Returns
    -------
    levels : array of shape (bands, channels, time)
        ``levels[k]`` is the sum of bands 0 to k.

    Raises
    ------
    ValueError
        If the signal is not two-dimensional and finite, or a band is not possible.
    """
    signal = np.asarray(signal)
    if signal.ndim != 2 or signal.shape[1] < 2:
        raise ValueError(f"The signal has shape {signal.shape}; it must be (channels, time) with at least two samples.")
    if not np.isfinite(signal).all():
        bad = np.flatnonzero(~np.isfinite(signal).all(axis=1))
        raise ValueError(
            f"The signal has NaN or infinite samples in {bad.size} of {len(signal)} channels (first: {bad[0]}); a "
            "filter would spread them over seconds. Interpolate or drop those channels first."
        )
    edges = effective_bands(bands, sfreq)
    filters = [_filter(edges, index, sfreq) for index in range(len(edges))]
    length = max(taps for *_, taps in filters)
    kind = signal.dtype if signal.dtype in (np.float32, np.float64) else np.float64
    work = signal.astype(np.float64)
    room = 0
    if work.shape[1] <= length:
        room = length // 2
        work = np.pad(work, ((0, 0), (room, room)), mode="reflect")

    levels = np.empty((len(edges), *signal.shape), kind)
    for index, level in enumerate(_filtered(work, sfreq, filters, length)):
        levels[index] = level[:, room : room + signal.shape[1]]
    return levels


def edge_samples(sfreq: float, bands: Sequence[Band] = DEFAULT_BANDS) -> int:
    """Return the number of samples at either end of a recording whose bands rest on mirrored samples.

    It is half the length of the longest filter: 3.3 s for a band that starts at 0.5 Hz.

    Examples
    --------
    >>> edge_samples(100.0)
    330
    """
    edges = effective_bands(bands, sfreq)
    return max(_filter(edges, index, sfreq)[-1] for index in range(len(edges))) // 2


def _filtered(
    signal: np.ndarray, sfreq: float, filters: Sequence[tuple[float | None, float, float, float, int]], length: int
) -> Iterator[np.ndarray]:
    """Yield the running sum of the filtered bands: what `mne.filter.filter_data` gives, with one transform for all.

    The kernels are mne's. As there, the signal is continued at both ends by its point reflection.
    """
    from mne.filter import create_filter
    from scipy.fft import irfft, next_fast_len, rfft

    half = length // 2
    before = 2 * signal[:, :1] - signal[:, half:0:-1]
    after = 2 * signal[:, -1:] - signal[:, -2 : -half - 2 : -1]
    padded = np.concatenate([before, signal, after], axis=1)
    size = next_fast_len(padded.shape[1] + length - 1, real=True)
    spectrum, kernel = rfft(padded, size, axis=1), np.zeros(length)
    for low, high, low_width, high_width, _ in filters:
        kernel = kernel + create_filter(
            None, sfreq, low, high, filter_length=length, l_trans_bandwidth=low_width, h_trans_bandwidth=high_width,
            method="fir", phase="zero", fir_window="hamming", fir_design="firwin", verbose="error",
        )  # fmt: skip
        yield irfft(spectrum * rfft(kernel, size), size, axis=1)[:, 2 * half : 2 * half + signal.shape[1]]


def _filter(bands: tuple[Band, ...], index: int, sfreq: float) -> tuple[float | None, float, float, float, int]:
    """Return pass-band edges and transition widths (Hz), and odd length (samples), of the filter of one band."""
    low, high = bands[index]
    below = next((b for b in bands if b[1] == low), None)
    above = next((b for b in bands if b[0] == high), None)
    low_width = min(max(0.25 * low, 2.0), low) if low > 0 else np.inf  # mne's own "auto" widths
    high_width = min(max(0.25 * high, 2.0), sfreq / 2 - high)
    pass_low, pass_high = (low if low > 0 else None), high
    # A shared edge is the half-amplitude point of both filters, with one width, so that the two add up to 1.
    if below is not None:
        low_width = _shared_width(below, bands[index])
        pass_low = low + low_width / 2
    if above is not None:
        high_width = _shared_width(bands[index], above)
        pass_high = high - high_width / 2
    length = int(np.ceil(_HAMMING_LENGTH / min(low_width, high_width) * sfreq))
    return pass_low, pass_high, low_width, high_width, length + 1 - length % 2


def _shared_width(below: Band, above: Band) -> float:
    """Return the width in Hz of the transition between two touching bands; narrow bands keep some pass band."""
    edge = below[1]
    return min(max(0.25 * edge, 2.0), edge, 0.9 * (below[1] - below[0]), 0.9 * (above[1] - above[0]))
