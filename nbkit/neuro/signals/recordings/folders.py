"""Recordings in a folder: a BIDS data set, or any EDF and BDF files.

The key of a row comes from the file name, so the same folder gives the same keys at any path.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from nbkit.neuro.signals.recordings.recording import Recording

_EDF = (".edf", ".bdf")
_BIDS = (".edf", ".bdf", ".vhdr", ".set")


def bids_rows(
    path: str | Path, subjects: Sequence[str] | None = None, runs: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """Return one manifest row per EEG recording of a BIDS data set.

    Parameters
    ----------
    path : path
        Root of the data set.
    subjects : sequence of str, optional
        Subject labels, without ``sub-``; by default all.
    runs : sequence of str, optional
        Recordings to keep: the part of the name after the subject (such as ``ses-1_task-rest``), or the run label.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no such recording.
    """
    from mne_bids import find_matching_paths

    root = _folder(path)
    wanted = None if subjects is None else [str(s) for s in subjects]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mne-bids warns about every label that it has to guess
        found = find_matching_paths(
            root, datatypes="eeg", suffixes="eeg", extensions=list(_BIDS), subjects=wanted, check=False
        )
    rows = []
    for place in sorted(found, key=lambda p: p.basename):
        key = re.sub(r"_eeg$", "", Path(place.basename).stem)
        run = key.split("_", 1)[1] if "_" in key else "run-1"
        if runs is None or run in map(str, runs) or str(place.run) in map(str, runs):
            rows.append(
                {"key": key, "source": "bids", "path": str(place.fpath), "subject": str(place.subject), "run": run}
            )
    if not rows:
        raise FileNotFoundError(
            f"{root} holds no EEG recording ({', '.join(_BIDS)}) of subjects {_or_all(wanted)}, runs {_or_all(runs)}. "
            f"Its subjects: {', '.join(sorted(p.name for p in root.glob('sub-*'))[:20]) or 'none'}."
        )
    return rows


def edf_rows(
    path: str | Path, subjects: Sequence[str] | None = None, runs: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """Return one manifest row per EDF or BDF file below a folder.

    Subject and run are read from names like ``S001R03`` or ``sub-01_run-2``; otherwise the name of the folder is the
    subject, and that of the file is the run.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no such file.
    """
    root = _folder(path)
    rows = []
    for file in sorted(f for f in root.rglob("*") if f.suffix.lower() in _EDF and f.is_file()):
        subject, run = _subject_and_run(file)
        if (subjects is None or _same(subject, subjects)) and (runs is None or _same(run, runs)):
            inside = file.relative_to(root).with_suffix("")
            key = re.sub(r"[^A-Za-z0-9._=+@,-]+", "-", "_".join(inside.parts)).lstrip(".")
            rows.append({"key": key, "source": "edf", "path": str(file), "subject": subject, "run": run})
    if not rows:
        raise FileNotFoundError(
            f"{root} holds no {' or '.join(_EDF)} file of subjects {_or_all(subjects)}, runs {_or_all(runs)} "
            f"({sum(1 for _ in root.rglob('*'))} files and folders were searched)."
        )
    return rows


def load_bids(path: str | Path, sfreq: float | None = None) -> Recording:
    """Load one BIDS recording with its channel types and events, in uV."""
    from mne_bids import get_bids_path_from_fname, read_raw_bids

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        raw = read_raw_bids(get_bids_path_from_fname(_file(path), check=False), verbose="error")
    return Recording.from_raw(raw, sfreq, name=Path(path).name)


def load_edf(path: str | Path, sfreq: float | None = None) -> Recording:
    """Load one EDF or BDF file, in uV."""
    import mne

    read = mne.io.read_raw_bdf if str(path).lower().endswith(".bdf") else mne.io.read_raw_edf
    return Recording.from_raw(read(_file(path), verbose="error"), sfreq, name=Path(path).name)


def _folder(path: str | Path) -> Path:
    root = Path(path).expanduser()
    if not str(path) or not root.is_dir():
        raise FileNotFoundError(f"PATH={str(path)!r} is not a folder here. Give the folder that holds the recordings.")
    return root


def _file(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist any more. If the data set was moved, make the manifest again.")
    return Path(path)


def _subject_and_run(file: Path) -> tuple[str, str]:
    """Return subject and run from names like S001R03 and sub-01_..._run-2, else from folder and file."""
    if match := re.fullmatch(r"S(\d+)R(\d+)", file.stem):
        return str(int(match[1])), str(int(match[2]))
    if match := re.match(r"sub-([A-Za-z0-9]+)(?:_(.+))?", file.stem):
        return match[1], match[2] or "run-1"
    return file.parent.name, file.stem


def _same(value: str, wanted: Sequence[str]) -> bool:
    names = {str(name) for name in wanted}
    return value in names or (value.isdecimal() and int(value) in {int(name) for name in names if name.isdecimal()})


def _or_all(values: Sequence[str] | None) -> str:
    return "all" if values is None else ", ".join(map(str, values))
