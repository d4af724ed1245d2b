"""Write windows as shards: npy files and their indices.

An index `<name>.json` names the subject of the windows and the npy file next to it, and holds their columns (targets,
events, times). The npy file, in uV, holds either the windows, (windows, channels, time), or the whole signal, (time,
channels), from which several indices cut windows. Overlapping windows and several purposes then need no more space. All
samples are finite. The index is written last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "nbkit window shard 1"
DTYPES = ("float32", "float16")
WHOLE = "windows"  # name of an index that serves every purpose


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
    """Write the windows of one recording and their index (see `write_signal` for overlapping windows).

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    windows : array of shape (windows, channels, time)
        In uV; stored as float32.
    sfreq : float
        Sampling rate, in Hz.
    ch_names : sequence of str
    subject : str
        Subject of the windows.
    columns : mapping of str to array of shape (windows,)
        Numbers or text, one value per window: ``target``, ``start_s``, ``task``, ``event`` and so on.
    name : str
        File name without suffix.
    **facts : str or float
        Facts about the whole shard, such as ``data="real"`` or ``recording="sub-X_task-Y"``.

    Returns
    -------
    paths : dict
        Keys ``windows`` and ``index``, as an item of the manifest loop saves them.

    Raises
    ------
    ValueError
        If the windows are not three-dimensional, are empty or not finite, or names or columns do not match them.
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
    baseline: tuple[int, int] | None = None,
    **facts: Any,
) -> dict[str, Path]:
    """Write the whole signal of one recording, and one index per way of cutting it into windows.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    signal : array of shape (channels, time)
        In uV.
    sfreq : float
        Sampling rate, in Hz.
    ch_names : sequence of str
    subject : str
    cuts : mapping of str to (starts, length, columns)
        For each purpose: first samples of the windows, their length in samples, and their columns as in `write_shard`.
    dtype : {"float32", "float16"}
        Type of the file. float16 needs half the space, rounds by at most 1 part in 2048 (0.03 uV at 64 uV), and ends
        at 65504 uV; a larger signal is stored as float32. Windows are float32 when they are read.
    baseline : (int, int), optional
        Samples of each window whose mean is subtracted when it is read.
    **facts : JSON values

    Returns
    -------
    paths : dict
        Key ``signal``, and one key per purpose for its index.

    Raises
    ------
    ValueError
        If the signal is not finite, there are no windows, a window extends beyond the signal, or the dtype is unknown.
    """
    if dtype not in DTYPES:
        raise ValueError(f"Unknown {dtype=}; a signal is kept as {' or '.join(DTYPES)}.")
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
        indices[purpose] = {**index, "starts": starts.tolist(), "baseline": baseline}
    paths = {"signal": Path(folder, "signal.npy"), **{p: Path(folder, f"{p}.json") for p in indices}}
    paths["signal"].parent.mkdir(parents=True, exist_ok=True)
    if dtype == "float16" and np.abs(signal).max() > np.finfo(np.float16).max:
        dtype = "float32"
    np.save(
        paths["signal"], np.ascontiguousarray(signal.T, dtype=dtype)
    )  # time first, so that a window is contiguous in the file
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
    """Return an index, after checking its columns against the windows."""
    kept = {}
    for column, values in columns.items():
        values = np.asarray(values)
        if values.shape != shape[:1] or values.dtype.kind not in "biufU":
            raise ValueError(
                f"{recording}: column {column!r} has shape {values.shape} and type {values.dtype}; it must be "
                f"({shape[0]},), one number or text per window."
            )
        # JSON has no NaN
        kept[column] = [None if isinstance(v, float) and not np.isfinite(v) else v for v in values.tolist()]
    return {
        "format": FORMAT, "file": file, "subject": str(subject), "sfreq": float(sfreq),
        "ch_names": [str(c) for c in ch_names], "shape": list(shape), "unit": "uV",
        "facts": {"data": "real", **facts}, "columns": kept,
    }  # fmt: skip
