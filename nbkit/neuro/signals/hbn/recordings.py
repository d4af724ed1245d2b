"""Load HBN-EEG recordings from BIDS folders or, by eegdash, from the challenge's bucket, and cut them into windows.

Alexander et al. 2017, https://doi.org/10.1038/sdata.2017.181; Shirazi et al. 2024,
https://doi.org/10.1101/2024.10.03.615261. Release 5 is rejected if a name, a path or a file of the data set reveals it.
A row of `hbn_rows` holds everything that its recording needs, including the participant's factors.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.hbn.release import (
    EXCLUDED_SUBJECTS,
    RELEASES,
    TASKS,
    check_release,
    check_tasks,
    refuse_held_out,
)
from nbkit.neuro.signals.hbn.synthetic import hbn_ch_names
from nbkit.neuro.signals.hbn.windows import PARTICIPANT, HBNRecording, HBNWindows, write_windows
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.heard import heard
from nbkit.neuro.signals.intake.opening import open_recording
from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.intake.recording import Recording

SFREQ = 100.0  # Hz, as in the challenge
_BAND_HZ = (0.5, 50.0)
_FILES = (".bdf", ".set", ".edf", ".vhdr")


def hbn_rows(
    source: str,
    path: str | Path,
    *,
    releases: Sequence[str] = (),
    tasks: Sequence[str] = (),
    subjects: Sequence[str] = (),
    mini: bool = True,
    target: str | None = None,
) -> list[dict[str, str]]:
    """List recordings as manifest rows.

    Parameters
    ----------
    source : {"hbn", "hbn_bids"}
        The challenge's bucket, by eegdash (``pip install "nbkit-neuro[hbn]"``), or BIDS folders on disk.
    path : path
        Download folder of eegdash, or the root of one release, or a folder of several.
    releases, tasks, subjects : sequence of str
        Recordings to list; all if empty. Release 5 and the nine excluded subjects are never included.
    mini : bool
        For eegdash: only twenty subjects per release.
    target : str, optional
        Leave out subjects without this factor, such as ``externalizing``, and print their number.

    Returns
    -------
    rows : list of dict
        Columns key, source, path, release, subject, task, run, mini, and the participant's age and factors, as text.

    Raises
    ------
    ValueError
        If release 5 is requested by any name, or a release, task or source is unknown.
    FileNotFoundError
        If there is no such recording.
    """
    refuse_held_out(path if isinstance(path, Path) else Path(path), *releases)
    wanted = tuple(check_release(release) for release in releases)
    names = check_tasks(tasks or TASKS)
    if source == "hbn":
        found = _eegdash_rows(str(path), wanted or RELEASES, names, mini)
    elif source == "hbn_bids":
        found = _folder_rows(Path(path).expanduser(), wanted, names)
    else:
        raise ValueError(f"Unknown {source=}; it may be hbn or hbn_bids.")
    rows, without = [], set()
    people = {str(subject).removeprefix("sub-") for subject in subjects}
    for row in found:
        if row["subject"] in EXCLUDED_SUBJECTS or (people and row["subject"] not in people):
            continue
        if target is not None and not np.isfinite(_number(row.get(target, ""))):
            without.add(row["subject"])
            continue
        rows.append(row)
    if without:
        print(f"Left out: {len(without)} subjects have no {target}: {', '.join(sorted(without)[:5])} ...")
    if not rows:
        raise FileNotFoundError(
            f"{path} holds no recording of tasks {', '.join(names)}, releases {', '.join(wanted) or 'any'}, subjects "
            f"{', '.join(sorted(people)) or 'any'}. Give the folder that holds the sub-* folders, or one above it."
        )
    return sorted(rows, key=lambda row: row["key"])


def load_hbn(item: Mapping[str, Any], sfreq: float = SFREQ) -> HBNRecording:
    """Load the recording of a row: 129 channels in uV, E1 to E128 and Cz.

    A recording at another rate than ``sfreq`` (Hz) is filtered from 0.5 to 50 Hz and resampled; the challenge's copies
    need neither.

    Parameters
    ----------
    item : mapping
        A row of `hbn_rows`; values may be text, as in a manifest.

    Raises
    ------
    ValueError
        If the row is from release 5 or an excluded subject, or a channel of HBN is missing.
    FileNotFoundError
        If the file does not exist any more.
    """
    subject, release = str(item["subject"]), str(item["release"])
    refuse_held_out(release, Path(str(item["path"])))
    if subject in EXCLUDED_SUBJECTS:
        raise ValueError(f"Subject {subject} is one of the nine that the challenge excludes; use another row.")
    file = Path(str(item["path"])) if item["source"] == "hbn_bids" else _download(item)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there any more. If the data set was moved, make the manifest again.")
    refuse_held_out(file, *_own_words(file))
    onsets, durations, labels, feedback = _events(file)
    recording = replace(_as_hbn(file, sfreq), onsets_s=onsets, durations_s=durations, labels=labels, columns=())
    factors = {name: _number(item.get(name, "")) for name in PARTICIPANT}
    return HBNRecording(recording, subject, str(item["task"]), str(item["run"]), release, factors, feedback)


def make_windows(
    item: Mapping[str, Any],
    folder: str | Path,
    *,
    sfreq: float = SFREQ,
    windows: Sequence[HBNWindows] | None = None,
) -> dict[str, Path]:
    """Write the shard of one recording below a folder, for an item to save.

    Parameters
    ----------
    item : mapping
        A row of `hbn_rows`.
    folder : path
        Temporary folder for the files, until the item copies them.
    sfreq : float
        Sampling rate, in Hz.
    windows : sequence of HBNWindows, optional
        Kinds of windows; by default all that the recording allows (see `write_windows`).

    Returns
    -------
    paths : dict
        See `write_windows`.
    """
    return write_windows(load_hbn(item, sfreq), folder, windows)


def _folder_rows(root: Path, releases: tuple[str, ...], tasks: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if not root.is_dir():
        raise FileNotFoundError(f"PATH={str(root)!r} is not a folder here. Give the folder that holds the recordings.")
    roots = [root] if any(root.glob("sub-*")) else sorted({found.parent for found in root.glob("*/sub-*")})
    for place in roots:
        refuse_held_out(place, _title(place))
        people = _participants(place)
        for file in sorted(f for f in place.glob("sub-*/**/eeg/*_eeg.*") if f.suffix in _FILES):
            said = dict(re.findall(r"(sub|task|run)-([^_]+)", file.stem))
            person = people.get(said.get("sub", ""), {})
            release = person.get("release_number", "")
            refuse_held_out(release)
            if said.get("task") in tasks and (not releases or release in releases):
                yield _row("hbn_bids", str(file), release, said, person, mini="")


def _eegdash_rows(cache: str, releases: Sequence[str], tasks: tuple[str, ...], mini: bool) -> Iterator[dict[str, str]]:
    for release in releases:
        for record in _eegdash(release, cache, mini, task=list(tasks)).datasets:
            said = record.description
            names = {"sub": said["subject"], "task": said["task"], "run": said.get("run")}
            yield _row("hbn", cache, release, {k: str(v) for k, v in names.items() if v}, said, mini=str(int(mini)))


def _eegdash(release: str, cache: str, mini: bool, **which: Any) -> Any:
    """Return eegdash's listing of the challenge's data set from its server."""
    refuse_held_out(release, Path(cache))
    try:
        from eegdash import EEGChallengeDataset
    except ImportError as error:
        raise ModuleNotFoundError(
            f"The package eegdash is not installed ({error}). Install it with: python -m nbkit install hbn, or use "
            "BIDS folders (hbn_bids)."
        ) from error
    Path(cache).mkdir(parents=True, exist_ok=True)
    fields = ["subject", "session", "run", "task", *PARTICIPANT]
    return EEGChallengeDataset(release=release, cache_dir=cache, mini=mini, description_fields=fields, **which)


def _download(item: Mapping[str, Any]) -> Path:
    """Download one recording and its sidecars with eegdash, and return the file."""
    release, cache, mini = str(item["release"]), Path(str(item["path"])), str(item["mini"]) == "1"
    folder = cache / f"EEG2025r{release[1:]}{'mini' if mini else ''}" / f"sub-{item['subject']}" / "eeg"
    here = [file for file in folder.glob(f"{item['key']}_eeg.*") if file.suffix in _FILES]
    if here:
        return here[0]
    which = {"subject": str(item["subject"]), "task": str(item["task"])}
    if str(item["run"]):
        which["run"] = str(item["run"])
    found = _eegdash(release, str(cache), mini, **which).datasets
    if not found:
        raise FileNotFoundError(f"No recording {item['key']} in eegdash's {release}. Make the manifest again.")
    _ = found[0].raw  # downloads the file and its sidecars
    return Path(found[0].filecache)


def _row(
    source: str, path: str, release: str, said: Mapping[str, str], person: Mapping[str, Any], mini: str
) -> dict[str, str]:
    subject, task, run = said.get("sub", ""), said.get("task", ""), said.get("run", "")
    key = f"sub-{subject}_task-{task}" + (f"_run-{run}" if run else "")
    row = {"key": key, "source": source, "path": path, "release": release, "subject": subject, "task": task}
    known = {**person, "sex": {"f": 1.0, "m": 0.0}.get(str(person.get("sex", "")).strip().lower()[:1])}
    factors = {name: _text(known.get(name)) for name in PARTICIPANT}
    return {**row, "run": run, "mini": mini, **factors}


def _as_hbn(file: Path, sfreq: float) -> Recording:
    """Return HBN's 129 channels in HBN's order, filtered if they must be resampled."""
    with heard([]):  # read_recording says it all again
        recorded = open_recording(file).raw.info["sfreq"]
    band = (None, None) if recorded == sfreq else (_BAND_HZ[0], min(_BAND_HZ[1], 0.49 * sfreq))
    # every channel stays, because the models of the challenge take all 129
    found = read_recording(file, Cleaning(sfreq, *band, bads="keep"))
    names = ["Cz" if name == "E129" and "Cz" not in found.ch_names else name for name in found.ch_names]
    wanted = hbn_ch_names()
    missing = [channel for channel in wanted if channel not in names]
    if missing:
        raise ValueError(
            f"{file.name} has {len(names)} channels without {', '.join(missing[:5])}{' ...' if missing[5:] else ''}; "
            "an HBN recording has E1 to E128 and Cz. Leave it out, or read it with SOURCE = 'bids'."
        )
    return replace(found, signal=found.signal[[names.index(channel) for channel in wanted]], ch_names=tuple(wanted))


def _events(file: Path) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...], tuple[str, ...]]:
    """Return onsets, durations (s), names and feedback of the events; empty without an events file."""
    table = file.with_name(re.sub(r"_eeg$", "_events", file.stem) + ".tsv")
    rows = _table(table) if table.is_file() else []
    kept = [row for row in rows if np.isfinite(_number(row.get("onset", "")))]
    durations = [_number(row.get("duration", "")) for row in kept]
    return (
        tuple(_number(row["onset"]) for row in kept),
        tuple(duration if np.isfinite(duration) else 0.0 for duration in durations),
        tuple(row.get("value", "") for row in kept),
        tuple(row.get("feedback", "") for row in kept),
    )


def _own_words(file: Path) -> list[str]:
    """Return the title and release in the metadata of a file's data set."""
    root = next((parent for parent in file.parents if (parent / "dataset_description.json").is_file()), None)
    if root is None:
        return []
    subject = re.match(r"sub-([^_]+)", file.name)
    person = _participants(root).get(subject[1] if subject else "", {})
    return [_title(root), person.get("release_number", "")]


def _title(root: Path) -> str:
    description = root / "dataset_description.json"
    return str(json.loads(description.read_text("utf-8")).get("Name", "")) if description.is_file() else ""


def _participants(root: Path) -> dict[str, dict[str, str]]:
    table = root / "participants.tsv"
    return {row["participant_id"].removeprefix("sub-"): row for row in _table(table)} if table.is_file() else {}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):  # n/a, empty, None
        return float("nan")


def _text(value: Any) -> str:
    """Return a number as text for a manifest, "" if there is none."""
    return repr(_number(value)) if np.isfinite(_number(value)) else ""
