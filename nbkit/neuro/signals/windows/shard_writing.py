"""Windows in shards: npy files and their indices.

An index `<name>.json` says whose windows they are, in which npy file beside it they lie, and holds their columns
(targets, events, times). The npy file, in uV, is either the windows, (windows, channels, time), or the whole signal,
(time, channels), from which several indices cut windows of their own: overlapping windows and several purposes then
cost nothing. Every sample is finite, and the index is written last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "nbkit window shard 1"
DTYPES = ("float32", "float16")


def write_shard(
    folder: str | Path,
    windows: np.ndarray,
    *,
    sfreq: float,
    ch_names: Sequence[str],
    subject: str,
    columns: Mapping[str, np.ndarray],
    name: str = "windows",
    **facts: str | float,
) -> dict[str, Path]:
    """Write one recording's windows and their index, and give both paths (see `write_signal` for overlapping windows).

    Parameters
    ----------
    folder : path
        Made where it is not there.
    windows : array of shape (windows, channels, time)
        In uV; kept as float32.
    sfreq : float
        Samples a second, in Hz.
    ch_names : sequence of str
    subject : str
        Whose windows they are.
    columns : mapping of str to array of shape (windows,)
        Numbers or text, one value a window: ``target``, ``start_s``, ``task``, ``event`` and so on.
    name : str
        Of the files, without suffix.
    **facts : str or float
        Said of the whole shard, such as ``data="real"`` or ``recording="sub-X_task-Y"``.

    Returns
    -------
    paths : dict
        ``windows`` and ``index``, as an item of the manifest loop saves them.

    Raises
    ------
    ValueError
        If windows are not three-dimensional, or are none, or hold NaN; if names or columns do not fit them.
    """
    windows = np.asarray(windows)
    recording = facts.get("recording", f"subject {subject}")
    if windows.ndim != 3 or 0 in windows.shape:
        raise ValueError(f"{recording}: windows have shape {windows.shape}; it must be (windows, channels, time).")
    if len(ch_names) != windows.shape[1]:
        raise ValueError(f"{recording}: {len(ch_names)} ch_names for windows of {windows.shape[1]} channels.")
    bad = np.flatnonzero(~np.isfinite(windows).all(axis=(1, 2)))
    if bad.size:
        channels = np.flatnonzero(~np.isfinite(windows[bad[0]]).all(axis=1))
        raise ValueError(
            f"{recording}: {bad.size} of {len(windows)} windows hold NaN or infinite samples (first: window {bad[0]}, "
            f"channel {ch_names[channels[0]]}). Nothing was written. Interpolate or leave out that part first."
        )
    index = _index(recording, f"{name}.npy", windows.shape, sfreq, ch_names, subject, columns, facts)
    paths = {"windows": Path(folder, f"{name}.npy"), "index": Path(folder, f"{name}.json")}
    paths["windows"].parent.mkdir(parents=True, exist_ok=True)
    np.save(paths["windows"], np.ascontiguousarray(windows, dtype=np.float32))
    paths["index"].write_text(json.dumps(index, allow_nan=False), encoding="utf-8")
    return paths


def write_signal(
    folder: str | Path,
    signal: np.ndarray,
    *,
    sfreq: float,
    ch_names: Sequence[str],
    subject: str,
    cuts: Mapping[str, tuple[np.ndarray, int, Mapping[str, np.ndarray]]],
    dtype: str = "float32",
    **facts: str | float,
) -> dict[str, Path]:
    """Write one recording's whole signal and an index for each way of cutting it, and give their paths.

    Parameters
    ----------
    folder : path
        Made where it is not there.
    signal : array of shape (channels, time)
        In uV.
    sfreq : float
        Samples a second, in Hz.
    ch_names : sequence of str
    subject : str
    cuts : mapping of str to (starts, length, columns)
        By purpose: first samples of the windows, their length in samples, and their columns as in `write_shard`.
    dtype : {"float32", "float16"}
        Of the file. float16 takes half the room, rounds to at most 1 part in 2048 (0.03 uV at 64 uV), and ends at
        65504 uV: a signal that goes beyond is kept as float32. Windows are float32 when they are read.
    **facts : str or float

    Returns
    -------
    paths : dict
        ``signal`` and one index by the name of each purpose.

    Raises
    ------
    ValueError
        If the signal is not finite, or windows leave it, or there are none, or for another dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"{dtype=} is unknown; a signal is kept as {' or '.join(DTYPES)}.")
    signal = np.asarray(signal)
    recording = facts.get("recording", f"subject {subject}")
    if signal.ndim != 2 or len(ch_names) != len(signal):
        raise ValueError(f"{recording}: signal of shape {signal.shape} with {len(ch_names)} ch_names.")
    bad = np.flatnonzero(~np.isfinite(signal).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{recording}: {bad.size} of {len(signal)} channels hold NaN or infinite samples (first: {ch_names[bad[0]]}"
            "). Nothing was written. Interpolate or leave out that part first."
        )
    indices = {}
    for purpose, (starts, length, columns) in cuts.items():
        starts = np.asarray(starts, int)
        if not len(starts) or starts.min() < 0 or starts.max() + length > signal.shape[1]:
            raise ValueError(
                f"{recording}: {len(starts)} windows of {length} samples ({purpose}) leave {signal.shape[1]} samples."
            )
        shape = (len(starts), len(signal), int(length))
        index = _index(recording, "signal.npy", shape, sfreq, ch_names, subject, columns, {**facts, "purpose": purpose})
        indices[purpose] = {**index, "starts": starts.tolist()}
    paths = {"signal": Path(folder, "signal.npy"), **{p: Path(folder, f"{p}.json") for p in indices}}
    paths["signal"].parent.mkdir(parents=True, exist_ok=True)
    if dtype == "float16" and np.abs(signal).max() > np.finfo(np.float16).max:
        dtype = "float32"
    np.save(paths["signal"], np.ascontiguousarray(signal.T, dtype=dtype))  # a window is then one piece of the file
    for purpose, index in indices.items():
        paths[purpose].write_text(json.dumps(index, allow_nan=False), encoding="utf-8")
    return paths


def _index(
    recording: str | float,
    file: str,
    shape: tuple[int, ...],
    sfreq: float,
    ch_names: Sequence[str],
    subject: str,
    columns: Mapping[str, np.ndarray],
    facts: Mapping[str, str | float],
) -> dict[str, Any]:
    """An index, its columns checked against the windows."""
    kept = {}
    for column, values in columns.items():
        values = np.asarray(values)
        if values.shape != shape[:1] or values.dtype.kind not in "biufU":
            raise ValueError(
                f"{recording}: column {column!r} has shape {values.shape} and type {values.dtype}; it must be "
                f"({shape[0]},), one number or text a window."
            )
        # JSON knows no NaN
        kept[column] = [None if isinstance(v, float) and not np.isfinite(v) else v for v in values.tolist()]
    return {
        "format": FORMAT, "file": file, "subject": str(subject), "sfreq": float(sfreq),
        "ch_names": [str(c) for c in ch_names], "shape": list(shape), "unit": "uV",
        "facts": {"data": "real", **facts}, "columns": kept,
    }  # fmt: skip
