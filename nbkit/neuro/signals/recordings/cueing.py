"""Posner cueing with response times: real EEG of many people with four dry electrodes.

NeuroTechX, eeg-notebooks v0.1 (BSD-3-Clause), as BIDS: TP9, AF7, AF8 and TP10 of a Muse at 256 Hz. A trial has a cue,
about 1.8 s later a target for 0.05 s, and a button press. The response time counts from the end of the target. The next
cue comes about 1 s after the press and would reveal the response time, so windows end at most 1 s after the target.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbkit.neuro.signals.windows.shard_writing import write_signal

CH_NAMES = ("TP9", "AF7", "AF8", "TP10")
_BAND_HZ = (0.5, 45.0)
_NEXT_CUE_S = 1.0  # s from the target to the earliest next cue


@dataclass(frozen=True)
class CueingWindows:
    """Position of a window relative to its target.

    Parameters
    ----------
    tmin, tmax : float
        Start and end, in s from the target; the end is at most 1 s.
    sfreq : float
        Sampling rate to resample to, in Hz.
    """

    tmin: float = -1.0
    tmax: float = 1.0
    sfreq: float = 100.0

    @classmethod
    def before(cls) -> CueingWindows:
        """Return windows of two seconds before the target, which forecast the response without seeing it."""
        return cls(-2.0, 0.0)

    def __post_init__(self) -> None:
        if not self.tmin < self.tmax <= _NEXT_CUE_S:
            raise ValueError(
                f"The window from {self.tmin:g} to {self.tmax:g} s is not valid: it must end after it begins, and at "
                f"{_NEXT_CUE_S:g} s at the latest, because the next cue would reveal the response time."
            )


def write_cueing(
    root: str | Path,
    folder: str | Path,
    windows: CueingWindows | None = None,
    subjects: Sequence[str] = (),
) -> list[Path]:
    """Write one shard per session below a folder.

    Parameters
    ----------
    root : path
        Root of the BIDS data set.
    folder : path
    windows : CueingWindows, optional
    subjects : sequence of str
        Subject labels without ``sub-``; all if empty.

    Returns
    -------
    paths : list of Path
        Files with the columns ``target`` (response time in s), ``correct``, ``valid`` (the cue was right), ``start_s``
        and ``session``.

    Raises
    ------
    FileNotFoundError
        If there is no such session.
    """
    files = sorted(Path(root).glob("sub-*/ses-*/eeg/*_eeg.edf"))
    chosen = [file for file in files if not subjects or _names(file)[0] in {str(s) for s in subjects}]
    if not chosen:
        raise FileNotFoundError(
            f"{root} holds no sub-*/ses-*/eeg/*_eeg.edf of subjects {', '.join(map(str, subjects)) or 'any'}; "
            f"{len(files)} sessions are there. Give the root of the cueing data set."
        )
    written = [_write_session(file, folder, windows or CueingWindows()) for file in chosen]
    return [path for paths in written for path in paths.values()]


def _write_session(file: Path, folder: str | Path, windows: CueingWindows) -> dict[str, Path]:
    subject, session = _names(file)
    signal, known = _signal(file, windows.sfreq)
    with file.with_name(file.name.replace("_eeg.edf", "_events.tsv")).open(encoding="utf-8", newline="") as table:
        events = [row for row in csv.DictReader(table, delimiter="\t") if row["trial_type"].startswith("target")]
    length = int(round((windows.tmax - windows.tmin) * windows.sfreq))
    starts = np.round((np.array([float(e["onset"]) for e in events]) + windows.tmin) * windows.sfreq).astype(int)
    times = np.array([_number(event["rt"]) for event in events])
    inside = (starts >= 0) & (starts + length <= known) & np.isfinite(times)
    name = file.name.replace("_eeg.edf", "")
    if not inside.any():
        raise ValueError(
            f"{name}: none of {len(events)} targets has a complete window and a response time. Leave it out."
        )
    columns = {
        "target": times[inside], "correct": np.array([_number(e["correct"]) for e in events])[inside],
        "valid": np.array([_number(e["validity"]) for e in events])[inside],
        "start_s": starts[inside] / windows.sfreq, "session": np.full(int(inside.sum()), session),
    }  # fmt: skip
    return write_signal(
        Path(folder, name), signal, sfreq=windows.sfreq, ch_names=CH_NAMES, subject=subject, recording=name,
        cuts={"response_time": (starts[inside], length, columns)}, dropped=int((~inside).sum()),
    )  # fmt: skip


def _signal(file: Path, sfreq: float) -> tuple[np.ndarray, int]:
    """Return the session in uV, filtered and resampled, and its number of recorded samples."""
    import mne

    raw = mne.io.read_raw_edf(file, preload=True, verbose="error").pick(list(CH_NAMES)).reorder_channels(list(CH_NAMES))
    padded = [note["onset"] for note in raw.annotations if note["description"] == "BAD_ACQ_SKIP"]
    seconds = min([raw.times[-1] + 1 / raw.info["sfreq"], *padded])
    raw.set_annotations(None).crop(tmax=seconds, include_tmax=False)
    raw.filter(*_BAND_HZ, verbose="error").resample(sfreq, verbose="error")
    return raw.get_data() * 1e6, raw.n_times


def _names(file: Path) -> tuple[str, int]:
    found = re.match(r"sub-([^_]+)_ses-(\d+)_", file.name)
    if found is None:
        raise ValueError(f"{file.name} must be named sub-<subject>_ses-<number>_task-cueing_eeg.edf.")
    return found[1], int(found[2])


def _number(text: str) -> float:
    return float("nan") if text in ("", "n/a") else float(text)
