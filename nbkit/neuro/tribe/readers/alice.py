"""Alice in the scanner (Brennan et al., 2016, https://doi.org/10.1016/j.bandl.2016.04.008): one story, six regions.

The first chapter of "Alice in Wonderland" was heard by 28 people; the archive holds the mean response of six regions
(spheres of 6 or 10 mm), the movement of the head, predictors under a haemodynamic response, and the words with times.
Volume i was measured ``20 + 2 i`` seconds after the start of the TextGrid's clock: its first 20 s are silence.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nbkit.neuro.tribe.readers.datasets import Dataset, Stimulus
from nbkit.neuro.tribe.readers.textgrid import read_textgrid
from nbkit.neuro.tribe.runs.targets import FmriRun, make_run

REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")
STORY, TR, SILENCE_S, DISCARDED = "alice", 2.0, 20.0, 10  # s, s, volumes that the responses lack and other files have
LICENCE = "CC BY 4.0 (data and stimulus); cite Brennan, Stabler, Van Wagenen, Luh, Hale (2016)"
_PREDICTORS = (
    "rate", "frequency", "break", "tdp", "tdx", "bup", "bux", "cfgsurp", "bigramlex", "trigramlex", "bigrampos",
    "trigrampos",
)  # fmt: skip


def read_alice(folder: str | Path, radius: str = "10mm") -> Dataset:
    """Return the story and the runs of the archive "Alice fMRI ROI Timecourses".

    Parameters
    ----------
    folder : str or Path
    radius : {"10mm", "6mm"}
        Radius of the regions.

    Raises
    ------
    FileNotFoundError
        If the TextGrid or the responses are missing.
    ValueError
        If a table has another shape.
    """
    folder = Path(folder)
    grids, tables = sorted(folder.glob("*.TextGrid")), sorted(folder.glob(f"{radius}/*-timecourses.txt"))
    if len(grids) != 1 or not tables:
        raise FileNotFoundError(
            f"{folder} holds {len(grids)} TextGrid files and {len(tables)} files {radius}/*-timecourses.txt; the "
            "archive has one, and one for each subject. Give the folder that it was unpacked to."
        )
    words = tuple(read_textgrid(grids[0], "word", SILENCE_S))
    return Dataset(STORY, [Stimulus(STORY, words, None, "text")], lambda: _runs(folder, tables), LICENCE)


def _runs(folder: Path, tables: list[Path]) -> list[FmriRun]:
    """Return the runs of the subjects that have values; the movement of the head is removed from each."""
    shared = sorted(folder.glob("*generic-predictors*.txt"))
    predictors = _table(shared[0], len(_PREDICTORS))[DISCARDED:] if shared else None
    runs = []
    for path in tables:
        subject = path.name.partition("-")[0]
        values = _table(path, len(REGIONS))
        if not values.any() or not np.isfinite(values).all():
            continue  # s33 has no values in the archive
        moved = _table(_one(folder, f"{subject}-rp*.txt"), 6)[DISCARDED:]
        run = make_run(values, TR, subject, STORY, confounds=moved / np.maximum(moved.std(0), 1e-12))
        given, names = [_table(_one(folder, f"{subject}-sndpwr.txt"), 1)], ["sound power"]
        if predictors is not None:
            given.append(predictors)
            names.extend(_PREDICTORS)
        if any(len(one) != len(values) for one in given):
            raise ValueError(f"{subject}: the predictors have {[len(one) for one in given]} rows for {len(values)}.")
        runs.append(replace(run, outputs=REGIONS, given=np.concatenate(given, 1), given_names=tuple(names)))
    return runs


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{folder} holds {len(found)} files {pattern}; one is needed. Unpack the archive again."
        )
    return found[0]


def _table(path: Path, columns: int) -> np.ndarray:
    try:
        values = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path.name} is not a table of numbers ({error}); unpack the archive again.") from error
    if values.shape[1] != columns or len(values) < 2:
        raise ValueError(f"{path.name} has the shape {values.shape}; (volumes, {columns}) is needed.")
    return values
