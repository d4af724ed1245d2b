"""Clips of three seconds (BOLD Moments, Lahner et al., 2024; OpenNeuro ds005165): an event design.

Each run shows clips one after another, with pauses. ``*_events.tsv`` holds onset, duration, trial_type and stim_file;
the responses are the runs' surface files or arrays beside it. A run's stimulus is put together from its clips: their
features stand at the onsets, and the time between has none.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from nbkit.neuro.tribe.readers.datasets import Dataset, Stimulus
from nbkit.neuro.tribe.readers.images import read_image
from nbkit.neuro.tribe.runs.targets import Event, FmriRun
from nbkit.neuro.tribe.stimuli.stimuli import VIDEO_SUFFIXES

LICENCE = "CC0 (responses); the clips have the licence of Moments in Time; cite Lahner et al. (2024)"


def read_bold_moments(folder: str | Path) -> Dataset:
    """Return the clips and runs of a folder of the data set.

    Raises
    ------
    FileNotFoundError
        If there are no events, or a run has no response file beside its events.
    ValueError
        If an events file has other columns.
    """
    folder = Path(folder)
    tables = sorted(folder.rglob("*_events.tsv"))
    clips = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES}
    if not tables or not clips:
        raise FileNotFoundError(
            f"{folder} holds {len(tables)} files *_events.tsv and {len(clips)} clips; give the folder that holds "
            "sub-*/ and stimulus_set/."
        )
    stimuli = [Stimulus(name, None, path, "") for name, path in clips.items()]
    return Dataset("bold_moments", stimuli, lambda: [_run(table) for table in tables], LICENCE)


def read_events(path: Path) -> tuple[Event, ...]:
    """Return the events of a BIDS table that show a clip.

    Raises
    ------
    ValueError
        If a column is missing or holds no number.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    made = []
    for number, row in enumerate(rows, 2):
        shown = row.get("stim_file") or ""
        if shown in ("", "n/a"):
            continue
        try:
            made.append(Event(float(row["onset"]), float(row["duration"]), Path(shown).stem))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name}, line {number}: onset and duration are needed ({error}).") from error
    if not made:
        raise ValueError(f"{path.name} shows no clip: no row has a stim_file. Is it of a task run?")
    return tuple(made)


def _run(table: Path) -> FmriRun:
    stem = table.name.removesuffix("_events.tsv")
    beside = sorted(path for path in table.parent.glob(f"{stem}*") if path != table and path.suffix != ".json")
    if not beside:
        raise FileNotFoundError(f"{table.parent} holds no response file {stem}_* beside {table.name}.")
    run = read_image(beside[0], subject=stem.partition("_")[0], video_id=stem)
    return replace(run, events=read_events(table))
