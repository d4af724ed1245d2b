"""List the recordings of a folder as manifest rows: any mix of formats, or a BIDS data set.

Keys come from the paths inside the folder, so the same folder gives the same keys on every machine, and two files never
share one. Hidden files, derivatives and source data are left out and counted.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from nbkit.neuro.signals.intake.edf_header import read_header
from nbkit.neuro.signals.intake.opening import EDF, SUFFIXES, suffix_of
from nbkit.neuro.signals.recordings.identity import TABLE, read_table, subjects_of

_APART = ("derivatives", "sourcedata", "code", "stimuli", "__macosx")
_OF_BIDS = (".edf", ".bdf", ".vhdr", ".set", ".fif", ".fif.gz", ".cnt", ".mff", ".gdf")
_LONGEST = 120  # bytes of a key


def folder_rows(
    path: str | Path,
    subjects: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    *,
    subject_from: str | None = None,
    table: str | Path | None = None,
    where: Path | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, str]]:
    """Return one manifest row per recording below a folder.

    Parameters
    ----------
    path : path
        A folder, or one file.
    subjects, runs : sequence of str, optional
        Which to list; by default all.
    subject_from : str, optional
        Regular expression with one group that finds the subject in a path.
    table : path, optional
        A table of recordings; by default ``recordings.tsv`` in the folder, if it is there.
    where : Path, optional
        Where the template of the table goes if the folder cannot be written.
    say : callable
        Prints one line about what was left out.

    Returns
    -------
    rows : list of dict of str
        With key, source, path, subject and run, and the further columns of the table.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no recording in it.
    RecordingError
        If it cannot be told whose recordings they are.
    """
    root, given = _folder(path), Path(path).expanduser()
    if (root / "dataset_description.json").is_file() and any(root.glob("sub-*")):
        return bids_rows(root, subjects, runs, say=say)
    left: Counter[str] = Counter()
    files = sorted(_recordings(root, left)) if given.is_dir() else [given]
    names = {file.relative_to(root).as_posix(): file for file in files}
    if not names:
        raise FileNotFoundError(
            f"{root} holds no recording ({', '.join(SUFFIXES)}); {_counted(left) or 'no other files were seen'}."
        )
    place = Path(table).expanduser() if table is not None else root / TABLE
    if table is not None and not place.is_file():
        raise FileNotFoundError(f"TABLE={str(table)!r} is not a file here. Give the table of the recordings.")
    rows_of = read_table(place) if place.is_file() else None
    if rows_of is not None:
        names = {name: file for name, file in names.items() if name in rows_of} or names
    who = subjects_of(list(names), rows_of, subject_from, root, where)
    keys = unique_keys(list(names))
    rows = []
    for name, file in names.items():
        more = dict(rows_of[name]) if rows_of is not None else {}
        run = more.pop("run", "") or _run_of(name)
        own = {"key": keys[name], "source": "folder", "path": str(file), "subject": who[name], "run": run}
        rows.append({**own, **{column: value for column, value in more.items() if column not in (*own, "file")}})
    chosen = [row for row in rows if _wanted(row["subject"], subjects) and _wanted(row["run"], runs)]
    if not chosen:
        raise FileNotFoundError(
            f"{root} holds {len(rows)} recordings, none of subjects {_or_all(subjects)}, runs {_or_all(runs)}. Its "
            f"subjects: {', '.join(sorted(set(who.values()))[:20])}."
        )
    if left:
        say(f"left out in {root.name}: {_counted(left)}")
    return chosen


def bids_rows(
    path: str | Path,
    subjects: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    *,
    say: Callable[[str], None] = print,
) -> list[dict[str, str]]:
    """Return one manifest row per raw EEG recording of a BIDS data set.

    Parameters
    ----------
    path : path
        Root of the data set.
    subjects : sequence of str, optional
        Subject labels, without ``sub-``; by default all.
    runs : sequence of str, optional
        Recordings to keep: the part of the name after the subject (such as ``ses-1_task-rest``), or the run label.
    say : callable

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no such recording.
    """
    root = _folder(path)
    left: Counter[str] = Counter()
    rows = []
    for file in sorted(_recordings(root, left, bids=True), key=lambda f: f.name):
        stem = re.sub(r"_eeg$", "", file.name[: -len(suffix_of(file))])
        entities = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
        if "sub" not in entities or not file.name[: -len(suffix_of(file))].endswith("_eeg"):
            left["files that are not *_eeg"] += 1
            continue
        run = stem.split("_", 1)[1] if "_" in stem else "run-1"
        row = {"key": stem, "source": "bids", "path": str(file), "subject": entities["sub"], "run": run}
        row |= {name: entities[key] for name, key in (("task", "task"), ("session", "ses")) if key in entities}
        if _wanted(row["subject"], subjects) and (_wanted(run, runs) or _wanted(entities.get("run", ""), runs)):
            rows.append(row)
    if not rows:
        raise FileNotFoundError(
            f"{root} holds no EEG recording ({', '.join(_OF_BIDS)}) of subjects {_or_all(subjects)}, runs "
            f"{_or_all(runs)}. Its subjects: {', '.join(sorted(p.name for p in root.glob('sub-*'))[:20]) or 'none'}."
        )
    if left:
        say(f"left out in {root.name}: {_counted(left)}")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in columns} for row in rows]


def unique_keys(names: Sequence[str]) -> dict[str, str]:
    """Return a key for each path: readable, safe as a file name, and different even where case is ignored.

    Examples
    --------
    >>> unique_keys(["rest 1.edf", "a/b.edf"])
    {'rest 1.edf': 'rest-1', 'a/b.edf': 'a_b'}
    """
    plain = {name: _plain_key(name) for name in names}
    counts = Counter(key.casefold() for key, _ in plain.values())
    return {
        name: key if exact and counts[key.casefold()] == 1 else f"{key}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for name, (key, exact) in plain.items()
    }


def _plain_key(name: str) -> tuple[str, bool]:
    """Return a key, and whether it says all that the name says but for spaces and separators."""
    path = PurePosixPath(name)
    inside = "_".join([*path.parent.parts, path.name[: -len(suffix_of(path))] or path.name])
    ascii_only = unicodedata.normalize("NFKD", inside).encode("ascii", "ignore").decode()
    key = re.sub(r"[^A-Za-z0-9._=+@,-]+", "-", ascii_only).strip("-. ")[:_LONGEST] or "recording"
    return key, inside.isascii() and len(inside) <= _LONGEST


def _recordings(root: Path, left: Counter[str], bids: bool = False) -> Iterator[Path]:
    """Yield the recordings below a folder, and count what is left out and why."""
    headers = {path.with_suffix("").as_posix() for path in root.rglob("*.vhdr")}
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        folders = [part.lower() for part in inside.parts[:-1]]
        if any(part.endswith(".mff") for part in folders):
            continue  # a part of a recording that is a folder
        suffix = suffix_of(path)
        is_recording = suffix in (_OF_BIDS if bids else SUFFIXES) and (suffix == ".mff" or not path.is_dir())
        if not is_recording:
            continue
        if any(part.startswith(".") for part in inside.parts):
            left["hidden files"] += 1
        elif apart := next((part for part in folders if part in _APART), None):
            left[f"files in {apart}/"] += 1
        elif suffix.startswith(".fif") and _first_part(path) != path and _first_part(path).is_file():
            left["further parts of split recordings"] += 1
        elif suffix in EDF and _only_annotations(path):
            left["files of annotations only"] += 1
        elif path.with_suffix("").as_posix() in headers and suffix in (".dat", ".eeg"):
            continue
        else:
            yield path


def _first_part(path: Path) -> Path:
    suffix = suffix_of(path)
    return path.with_name(re.sub(r"-\d+$", "", path.name[: -len(suffix)]) + path.name[-len(suffix) :])


def _only_annotations(path: Path) -> bool:
    try:
        return read_header(path).only_annotations
    except (OSError, ValueError):
        return False  # it becomes an item, which fails with the reason


def _run_of(name: str) -> str:
    stem = PurePosixPath(name).stem
    if match := re.fullmatch(r"S(\d+)R(\d+)", stem):
        return str(int(match[2]))
    if match := re.match(r"sub-[A-Za-z0-9]+_(.+)", stem):
        return match[1]
    return stem


def _folder(path: str | Path) -> Path:
    given = Path(path).expanduser()
    if not str(path) or not given.exists():
        seen = f"PATH={str(path)!r} is not a folder here." if str(path) else "PATH is not set."
        raise FileNotFoundError(f"{seen} Give the folder that holds the recordings.")
    return given if given.is_dir() and suffix_of(given) != ".mff" else given.parent


def _wanted(value: str, chosen: Sequence[str] | None) -> bool:
    if not chosen:
        return True
    names = {str(name) for name in chosen}
    return value in names or (value.isdecimal() and int(value) in {int(name) for name in names if name.isdecimal()})


def _counted(left: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(left.items()))


def _or_all(values: Sequence[str] | None) -> str:
    return "all" if not values else ", ".join(map(str, values))
