"""Tables beside a recording: channels.tsv, events.tsv and participants.tsv of BIDS, and tables of labels."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.intake.opened import Mark, Opened
from nbkit.neuro.signals.intake.units import is_blank


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table of tab-separated values, without those that are empty."""
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    plain = [{str(n).strip(): (v or "").strip() for n, v in row.items() if n is not None} for row in rows]
    return [row for row in plain if any(row.values())]


def number(text: str | None) -> float:
    """Return a number of a table; NaN for n/a, an empty field or a word."""
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value


def beside(path: Path, suffix: str) -> Path:
    """Return the place of a BIDS table that belongs to a recording, such as ``events.tsv``.

    One that is not beside the recording is looked for in the folders above, up to the data set's root: a table counts
    for all files that have its entities (``task-rest_channels.tsv``). The nearest one is taken.
    """
    own = path.with_name(f"{path.name.rsplit('_', 1)[0]}_{suffix}")
    entities = set(path.name.split("_")[:-1])
    for folder in () if own.is_file() else path.parents:
        found = {place: set(place.name.split("_")[:-1]) for place in folder.glob(f"*{suffix}") if place.is_file()}
        fitting = [place for place, its in found.items() if its <= entities and place.name.split("_")[-1] == suffix]
        if fitting:
            return max(fitting, key=lambda place: len(found[place]))
        if (folder / "dataset_description.json").is_file():
            break
    return own


def take_channels_table(names: Sequence[str], path: Path, opened: Opened) -> None:
    """Take units and types from the channels.tsv beside a recording; the table counts more than the header."""
    table = beside(path, "channels.tsv")
    if not table.is_file():
        opened.said.append(f"There is no {table.name}; kinds and units are those of the file.")
        return
    rows = [row for row in read_tsv(table) if row.get("name")]
    strange = [row["name"] for row in rows if row["name"] not in names]
    if strange:
        opened.said.append(f"{table.name} names {', '.join(strange[:6])}, which the file does not have.")
    for row in rows:
        if row["name"] in names:
            if not is_blank(row.get("type")):
                opened.kinds[row["name"]] = row["type"].lower()
            opened.declare(row["name"], row.get("units", ""), table.name)
            if row.get("status", "").lower() == "bad" and row["name"] not in opened.raw.info["bads"]:
                opened.raw.info["bads"] = [*opened.raw.info["bads"], row["name"]]


def event_rows(path: Path, said: list[str]) -> list[Mark] | None:
    """Return the rows of the events.tsv beside a recording as marks; None if there is no such table.

    A row is named by its ``trial_type``, or by its ``value`` if the table has no trial types. Rows without an onset or
    a name are left out and counted.
    """
    table = beside(path, "events.tsv")
    if not table.is_file():
        return None
    marks, lost, rows = [], 0, read_tsv(table)
    named_by = "trial_type" if any(not is_blank(row.get("trial_type")) for row in rows) else "value"
    for row in rows:
        onset, duration = number(row.get("onset")), number(row.get("duration"))
        text = row.get(named_by, "")
        if not math.isfinite(onset) or is_blank(text):
            lost += 1
            continue
        more = tuple((name, value) for name, value in row.items() if name not in ("onset", "duration"))
        marks.append(Mark(onset, duration if math.isfinite(duration) else 0.0, text, more))
    if lost:
        said.append(f"{table.name}: {lost} rows without an onset or a name were left out.")
    return marks


def participant(root: Path, subject: str) -> dict[str, str]:
    """Return the row of a subject in participants.tsv of a BIDS data set; empty if there is none."""
    table = root / "participants.tsv"
    rows = read_tsv(table) if table.is_file() else []
    found = next((row for row in rows if row.get("participant_id", "").removeprefix("sub-") == subject), {})
    return {name: value for name, value in found.items() if name != "participant_id"}


def label_spans(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the rows of a table of labels by recording.

    The table has the column ``recording`` (the key, or the name of the file), may have ``start_s`` and ``stop_s`` (a
    span; empty for the whole recording), and one or more columns of labels or numbers.

    Raises
    ------
    RecordingError
        If a column is missing, or a span is not valid.
    """
    rows = read_tsv(path)
    columns = list(rows[0]) if rows else []
    labels = [name for name in columns if name not in ("recording", "start_s", "stop_s")]
    if "recording" not in columns or not labels:
        raise RecordingError(
            f"{path.name} has the columns {', '.join(columns) or 'none'}; a table of labels needs recording and at "
            "least one column of labels, and may have start_s and stop_s. Nothing was cut."
        )
    found: dict[str, list[dict[str, str]]] = {}
    for line, row in enumerate(rows, 2):
        start, stop = number(row.get("start_s")), number(row.get("stop_s"))
        if math.isfinite(start) and math.isfinite(stop) and not stop > start:
            raise RecordingError(f"{path.name}, line {line}: the span from {start:g} to {stop:g} s has no length.")
        found.setdefault(row["recording"], []).append(row)
    return found
