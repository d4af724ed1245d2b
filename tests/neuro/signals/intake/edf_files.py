"""EDF files of any header, for tests: units, labels, gaps and lengths as people's files have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

RECORD_S = 1


def brain_waves(n_chans: int, seconds: float, sfreq: float, seed: int = 0, size: float = 20.0) -> np.ndarray:
    """Return noise with a spectrum like that of EEG, shape (channels, time), with a standard deviation in uV."""
    rng = np.random.default_rng(seed)
    count = int(round(seconds * sfreq))
    spectrum = np.fft.rfft(rng.normal(size=(n_chans, count)), axis=1)
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / sfreq), 1.0))
    signal = np.fft.irfft(spectrum, count, axis=1)
    return size * signal / signal.std(axis=1, keepdims=True)


def write_edf(
    path: Path,
    signals: np.ndarray,
    labels: Sequence[str],
    units: Sequence[str | bytes],
    sfreq: int = 200,
    *,
    volts_per_unit: Sequence[float] | None = None,
    marks: Sequence[tuple[float, float, str]] = (),
    record_onsets: Sequence[float] | None = None,
    promised: int | None = None,
) -> Path:
    """Write an EDF+ file.

    Parameters
    ----------
    signals : array of shape (channels, time)
        In uV.
    units : sequence of str or bytes
        What the field of the unit holds, whatever it is.
    volts_per_unit : sequence of float, optional
        Unit in which the numbers are written; 1e-6 by default.
    marks : sequence of (onset, duration, text)
    record_onsets : sequence of float, optional
        Start of each record in s; the file is then interrupted (EDF+D).
    promised : int, optional
        Number of records that the header promises; by default those that are written.
    """
    per_unit = volts_per_unit or [1e-6] * len(signals)
    records = signals.shape[1] // (sfreq * RECORD_S)
    numbers = [signal * 1e-6 / volts for signal, volts in zip(signals, per_unit, strict=True)]
    # as the field of 8 characters can say it: rounded up
    tops = [_fit(np.abs(row).max() * 1.01 + 1e-12) for row in numbers]
    onsets = list(record_onsets) if record_onsets is not None else [float(n * RECORD_S) for n in range(records)]
    notes = 60
    kind = "EDF+D" if record_onsets is not None else "EDF+C"
    count = len(signals) + 1
    head = _fields([("0", 8), ("X X X X", 80), ("Startdate 01-JAN-2020 X X X", 80), ("01.01.20", 8), ("00.00.00", 8)])
    head += _fields([(str(256 * (count + 1)), 8), (kind, 44), (str(promised or records), 8), (str(RECORD_S), 8)])
    head += _fields([(str(count), 4)])
    all_labels, all_units = [*labels, "EDF Annotations"], [*units, ""]
    columns: list[tuple[list[str | bytes], int]] = [
        (all_labels, 16), ([""] * count, 80), (all_units, 8),
        ([f"-{_text(top)}" for top in tops] + ["-1"], 8), ([_text(top) for top in tops] + ["1"], 8),
        (["-32768"] * count, 8), (["32767"] * count, 8), ([""] * count, 80),
        ([str(sfreq * RECORD_S)] * len(signals) + [str(notes)], 8), ([""] * count, 32),
    ]  # fmt: skip
    for values, width in columns:
        head += _fields([(value, width) for value in values])
    body = b""
    for record in range(records):
        cut = slice(record * sfreq * RECORD_S, (record + 1) * sfreq * RECORD_S)
        for row, top in zip(numbers, tops, strict=True):
            body += np.round((row[cut] + top) / (2 * top) * 65535 - 32768).astype("<i2").tobytes()
        text = f"+{onsets[record]:g}\x14\x14\x00".encode()
        for onset, duration, name in marks if record == 0 else ():
            text += f"+{onset:g}\x15{duration:g}\x14{name}\x14\x00".encode()
        body += text.ljust(2 * notes, b"\x00")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + body)
    return path


def _fit(value: float) -> float:
    """Return the smallest number that is not below a value and has a sign and six characters."""
    step = 10.0 ** -(4 if value < 1 else 2 if value < 1000 else 0) if value > 1e-3 else 1e-5
    return float(np.ceil(value / step) * step)


def _text(value: float) -> str:
    return f"{value:.5f}"[:7] if value < 10 else f"{value:.2f}"[:7]


def _fields(values: Sequence[tuple[str | bytes, int]]) -> bytes:
    raw = [value if isinstance(value, bytes) else value.encode("latin-1") for value, _ in values]
    return b"".join(value[:width].ljust(width) for value, (_, width) in zip(raw, values, strict=True))
