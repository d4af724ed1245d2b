"""nilearn's development film (Richardson et al., 2018; OpenNeuro ds000228): 155 people, one film of 5.6 minutes.

nilearn downloads the runs (``fetch_development_fmri``), 168 volumes at TR 2 s in MNI space, with confounds. The film,
"Partly Cloudy", is not in the data: put a copy of yours beside them as ``pixar.mp4``. Volume 5 is its first second.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from nbkit.neuro.tribe.readers.datasets import Dataset, Stimulus
from nbkit.neuro.tribe.readers.images import read_image
from nbkit.neuro.tribe.runs.targets import FmriRun, make_run
from nbkit.neuro.tribe.stimuli.stimuli import VIDEO_SUFFIXES

FILM, TR, BEFORE = "pixar", 2.0, 5  # s; volumes before the film
LICENCE = "CC0 (responses); cite Richardson et al. (2018)"


def read_development(folder: str | Path) -> Dataset:
    """Return the film and the runs of a folder that nilearn filled.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    """
    folder = Path(folder)
    images = sorted(folder.rglob("sub-pixar*_task-pixar_*bold.nii.gz"))
    if not images:
        raise FileNotFoundError(
            f"{folder} holds no run sub-pixar*_task-pixar_*bold.nii.gz; fetch them with "
            "nilearn.datasets.fetch_development_fmri(data_dir=...) and give that folder."
        )
    film = next((path for path in sorted(folder.rglob(f"{FILM}.*")) if path.suffix.lower() in VIDEO_SUFFIXES), None)
    return Dataset("development", [Stimulus(FILM, None, film)], lambda: [_run(path) for path in images], LICENCE)


def _run(path: Path) -> FmriRun:
    """Return a run from the film's start, without the movement and the other confounds that are beside it."""
    subject = path.name.partition("_")[0]
    whole = read_image(path, subject, FILM)
    tables = sorted(path.parent.glob(f"{subject}_*confounds*.tsv")) + sorted(
        path.parent.glob(f"{subject}_*regressors*.tsv")
    )
    confounds = _confounds(tables[0])[BEFORE:] if tables else None
    kept = make_run(whole.fmri[BEFORE:], TR, subject, FILM, confounds=confounds)
    return replace(kept, keep=kept.keep & whole.keep)


def _confounds(path: Path) -> np.ndarray:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        columns = np.array([[float(value) for value in row.values()] for row in rows])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is not a table of numbers ({error}).") from error
    spread = columns.std(0)
    return (columns - columns.mean(0))[:, spread > 0] / spread[spread > 0]
