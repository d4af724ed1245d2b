"""Who was recorded: subject and run of every file, from BIDS, a table, a pattern, or an unambiguous layout.

A split by subject is only as good as this. Where it cannot be told, nothing is assumed: a template of the table is
written with the names of the files, and the user fills it in.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from nbkit.neuro.signals.intake.facts import RecordingError

TABLE = "recordings.tsv"
_BIDS = re.compile(r"sub-([A-Za-z0-9+]+)(?:_(.+))?")
_PERSON = re.compile(r"[A-Za-z]+[_-]?\d+")
_PHYSIONET = re.compile(r"S(\d{3})R(\d{2})")
# words of a task, a state or a session in a name, which are no part of a subject
_RUN_WORD = re.compile(
    r"(?:rest|resting|task|eyes|open|closed|ec|eo|run|ses|session|trial|block|day|night|visit|pre|post|baseline|base|test|"
    r"raw|eeg|rec|recording|psg|edf|sleep|awake|move|movement|imagery|odd|oddball|stim|left|right|part|data)\d{0,4}",
    re.IGNORECASE,
)

# words of a group, a side of a split or a condition: a folder of that name holds several people
_GROUP_WORD = re.compile(
    r"(?:controls?|ctrl|hc|healthy|normal|abnormal|patients?|cases?|diseased?|ad|mci|mdd|ftd|scz|asd|adhd|epilep\w*|"
    r"seizures?|groups?|grp|cohort|sites?|cent(?:er|re)s?|hospital|lab|batch|train\w*|valid\w*|val|dev|eval\w*|folds?|"
    r"splits?|sets?|before|after|males?|females?|men|women|young|old|adults?|child(?:ren)?|good|bad|clean|classe?s?|"
    r"cond(?:ition)?s?|weeks?|months?|years?|datasets?|stud(?:y|ies)|exp(?:eriment)?s?|release|version|tcp)\d*|(?:19|20)\d\d",
    re.IGNORECASE,
)


def read_table(path: Path, needed: Sequence[str] = ("file", "subject")) -> dict[str, dict[str, str]]:
    """Return the rows of a table of recordings by file, as POSIX paths inside the folder.

    Raises
    ------
    RecordingError
        If it lacks a needed column, a subject is needed and missing, or a file is named twice.
    """
    text = path.read_text("utf-8-sig", errors="replace")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    columns = list(rows[0]) if rows else text.splitlines()[:1]
    if not rows or not set(needed) <= set(columns):
        raise RecordingError(
            f"{path.name} has the columns {', '.join(map(str, columns)) or 'none'}; it needs {' and '.join(needed)}, "
            "separated by tabs, and may have other columns. Nothing was listed."
        )
    found: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, 2):
        file = PurePosixPath((row["file"] or "").strip().replace("\\", "/")).as_posix()
        if file in found:
            raise RecordingError(f"{path.name}, line {number}: {file} is named twice. Keep one row for each file.")
        if "subject" in needed and not (row["subject"] or "").strip():
            raise RecordingError(f"{path.name}, line {number}: {file} has no subject. Fill in the column subject.")
        found[file] = {name: (value or "").strip() for name, value in row.items() if name}
    return found


def write_template(folder: Path, files: Sequence[str], where: Path | None = None) -> Path:
    """Write the template of the table, one row a file, beside the recordings or, if that is not possible, in ``where``.

    An existing table is never replaced.
    """
    text = "file\tsubject\trun\n" + "".join(f"{file}\t\t{PurePosixPath(file).stem}\n" for file in files)
    for place in (folder, where or Path()):
        path = place / TABLE
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return path
        except FileExistsError:
            return path
        except OSError:
            continue
    return folder / TABLE


def by_pattern(files: Sequence[str], pattern: str) -> dict[str, str]:
    """Return the subject of each file by a regular expression with one group, searched in its path.

    Raises
    ------
    RecordingError
        If the pattern is not valid, has not one group, or does not match a file.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise RecordingError(f"SUBJECT_FROM={pattern!r} is no regular expression: {error}.") from None
    if compiled.groups != 1:
        raise RecordingError(
            f"SUBJECT_FROM={pattern!r} has {compiled.groups} groups; it needs one, around the subject, such as "
            r"'Subject(\d+)'."
        )
    found = {file: compiled.search(file) for file in files}
    lost = [file for file, match in found.items() if match is None or not match[1]]
    if lost:
        raise RecordingError(
            f"SUBJECT_FROM={pattern!r} finds no subject in {', '.join(lost[:4])} ({len(lost)} of {len(files)} files). "
            f"Change it, or give a {TABLE}."
        )
    return {file: match[1] for file, match in found.items() if match is not None}


def by_layout(files: Sequence[str]) -> dict[str, str] | None:
    """Return the subject of each file where names or folders tell it without doubt; None where they do not.

    Names of BIDS (``sub-01_...``) and PhysioNet (``S001R03``) tell it. So does a folder for each subject, if folders
    differ at one level only, not counting those with names of runs. In one flat folder it is the part of the name
    before a run's word, if every name has the same form.

    Examples
    --------
    >>> by_layout(["anna/ses1/rest.edf", "bert/ses1/rest.edf"])
    {'anna/ses1/rest.edf': 'anna', 'bert/ses1/rest.edf': 'bert'}
    >>> by_layout(["P01_rest.edf", "P02_rest.edf", "P02_task.edf"])
    {'P01_rest.edf': 'P01', 'P02_rest.edf': 'P02', 'P02_task.edf': 'P02'}
    >>> by_layout(["a.edf", "b.edf"]) is None
    True
    """
    for form in (_BIDS, _PHYSIONET):
        matches = {file: form.match(PurePosixPath(file).stem) for file in files}
        if all(matches.values()):
            return {file: match[1] for file, match in matches.items() if match is not None}
    if len(files) == 1:
        return {files[0]: PurePosixPath(files[0]).stem}
    folders = [PurePosixPath(file).parent.parts for file in files]
    levels = []
    for level in range(max(map(len, folders))):
        names = {parts[level] if level < len(parts) else "" for parts in folders}
        if len(names) > 1 and not all(_is_run(name, numbers=False) for name in names):
            levels.append(level)
    if len(levels) > 1:  # <montage>/<patient>/: either could be the person
        return None
    if levels and all(len(parts) > levels[0] for parts in folders):
        found = {file: parts[levels[0]] for file, parts in zip(files, folders, strict=True)}
        return None if _are_groups(found, levels[0]) else found
    return None if levels else _by_stems(files)


def _are_groups(found: Mapping[str, str], level: int) -> bool:
    """Return whether folders may be groups of people: by their names, or by the names of people inside them."""
    split = {folder: [w for w in re.split(r"[_\-\s.]+", folder) if w] for folder in set(found.values())}
    if any(all(_GROUP_WORD.fullmatch(word) for word in words) for words in split.values() if words):
        return True
    numbered = all(_PERSON.fullmatch(folder) for folder in split)
    inside: dict[str, set[str]] = {}
    for file, folder in found.items():
        path = PurePosixPath(file)
        for name in (*path.parent.parts[level + 1 :], path.stem):
            if not _is_run(name, numbers=numbered) and folder.casefold() not in name.casefold():
                inside.setdefault(name, set()).add(folder)
    people = [name for name in inside if _PERSON.fullmatch(name)]
    # P01 in two folders is a person there, and so are P01 and P02 in one; S1/nback and S2/nback are two people
    shared = any(len(folders) > 1 for name, folders in inside.items() if name in people or not numbered)
    return shared or any(len(group) > 1 for group in _together(people, inside))


def _together(people: Sequence[str], inside: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the names that stand in each folder."""
    folders = {folder for name in people for folder in inside[name]}
    return [[name for name in people if folder in inside[name]] for folder in sorted(folders)]


def _by_stems(files: Sequence[str]) -> dict[str, str] | None:
    """Return subjects from names like ``P02_task``: one word with a number, then words of runs."""
    found = {}
    for file in files:
        words = [word for word in re.split(r"[_\-\s.]+", PurePosixPath(file).stem) if word]
        person = re.fullmatch(r"([A-Za-z]+)\d+", words[0]) if len(words) > 1 else None
        if person is None or _is_run(person[1]) or not all(_is_run(word) for word in words[1:]):
            return None
        found[file] = words[0]
    # one form only: the same letters in front of every number
    return found if len({re.sub(r"\d+$", "", subject) for subject in found.values()}) == 1 else None


def _is_run(name: str, numbers: bool = True) -> bool:
    """Return whether a name has words of runs only: ``task_2``, ``ses1``, and ``02`` or ``a1`` where numbers count."""
    words = [word for word in re.split(r"[_\-\s.]+", name) if word]
    if any(_RUN_WORD.fullmatch(word) for word in words):
        words = [word for word in words if not word.isdecimal()]  # the number of a run: ses-1
    return all(_RUN_WORD.fullmatch(word) or (numbers and re.fullmatch(r"[A-Za-z]?\d{1,3}", word)) for word in words)


def subjects_of(
    files: Sequence[str],
    table: Mapping[str, Mapping[str, str]] | None = None,
    pattern: str | None = None,
    folder: Path | None = None,
    where: Path | None = None,
) -> dict[str, str]:
    """Return the subject of each file: from the table, else the pattern, else the layout.

    Parameters
    ----------
    files : sequence of str
        POSIX paths inside the folder.
    table : mapping, optional
        See `read_table`.
    pattern : str, optional
        See `by_pattern`.
    folder, where : Path, optional
        Where to write the template of the table, see `write_template`.

    Raises
    ------
    RecordingError
        If a file is not in the table, or nothing tells the subjects; then the template is written.
    """
    if table is not None:
        lost = [file for file in files if file not in table]
        if lost:
            raise RecordingError(
                f"{TABLE} has no row for {', '.join(lost[:4])} ({len(lost)} of {len(files)} files). Add them, or move "
                "the files out of the folder."
            )
        return {file: table[file]["subject"] for file in files}
    if pattern is not None:
        return by_pattern(files, pattern)
    found = by_layout(files)
    if found is None:
        said = "Nothing was listed, because a split by subject would not be one."
        if folder is not None:
            path = write_template(folder, files, where)
            said += f" Fill in the column subject of {path} (its rows name the files)"
        raise RecordingError(
            f"Whose recordings these {len(files)} files are cannot be told from their names ({', '.join(files[:3])} "
            f"...). {said}, or set SUBJECT_FROM to a pattern such as 'Subject(\\d+)', and run this cell again."
        )
    return found
