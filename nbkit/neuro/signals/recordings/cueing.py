"""Posner cueing with response times: real EEG of many people with four dry electrodes.

NeuroTechX, eeg-notebooks v0.1 (BSD-3-Clause), as BIDS: TP9, AF7, AF8 and TP10 of a Muse at 256 Hz. A trial has a cue,
about 1.8 s later a target for 0.05 s, and a button press. The response time counts from the end of the target. The next
cue comes about 1 s after the press and would reveal the response time, so windows end at most 1 s after the target.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.windows.shard_writing import write_signal
from nbkit.neuro.signals.windows.windowing import Windowing, cut

CH_NAMES = ("TP9", "AF7", "AF8", "TP10")
_BAND_HZ = (0.5, 45.0)
_NEXT_CUE_S = 1.0  # s from the target to the earliest next cue


@checked
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
    recording = read_recording(file, Cleaning(windows.sfreq, *_BAND_HZ, bads="keep"), bids=True)
    signal = recording.signal[[recording.ch_names.index(name) for name in CH_NAMES]]
    name = file.name.replace("_eeg.edf", "")
    made = cut(recording, Windowing(events=(("target*", "target"),), tmin=windows.tmin, tmax=windows.tmax))
    times = made.columns["rt"].astype(float)
    inside = np.isfinite(times)
    if not inside.any():
        raise ValueError(f"{name}: none of {len(times)} targets has a response time. Leave it out.")
    columns = {
        "target": times[inside], "correct": made.columns["correct"][inside], "valid": made.columns["validity"][inside],
        "start_s": made.columns["start_s"][inside], "session": np.full(int(inside.sum()), session),
    }  # fmt: skip
    return write_signal(
        Path(folder, name), signal, sfreq=windows.sfreq, ch_names=CH_NAMES, subject=subject, recording=name,
        cuts={"response_time": (made.starts[inside], made.length, columns)},
        dropped=made.dropped + int((~inside).sum()),
    )  # fmt: skip


def _names(file: Path) -> tuple[str, int]:
    found = re.match(r"sub-([^_]+)_ses-(\d+)_", file.name)
    if found is None:
        raise ValueError(f"{file.name} must be named sub-<subject>_ses-<number>_task-cueing_eeg.edf.")
    return found[1], int(found[2])
