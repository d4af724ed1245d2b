"""CNeuroMod films as the Algonauts 2025 challenge gives them (https://algonautsproject.com/braindata.html).

The responses are h5 files of Schaefer's 1000 parcels, one data set for each session and film part
(``ses-001_task-s01e02a``), volumes by parcels at TR 1.49 s. Films lie in ``stimuli/movies``, transcripts in
``stimuli/transcripts``: one row for each TR, with lists of its words, their onsets and durations.
"""

from __future__ import annotations

import ast
import csv
import re
from pathlib import Path

import numpy as np

from nbkit.neuro.tribe.readers.datasets import Dataset, Stimulus
from nbkit.neuro.tribe.runs.targets import FmriRun, make_run
from nbkit.neuro.tribe.stimuli.decode import Word

TR = 1.49
LICENCE = "CC0 after registration with CNeuroMod; cite Boyle et al. (2020) and Gifford et al. (2025)"
_KEY = re.compile(r"(?:ses-(?P<session>\w+)_)?task-(?P<task>[A-Za-z0-9]+)(?:_run-(?P<run>\d+))?$")
_NEEDED = ("words_per_tr", "onsets_per_tr", "durations_per_tr")


def read_algonauts(folder: str | Path) -> Dataset:
    """Return the films and runs of a folder of the challenge's data.

    Raises
    ------
    FileNotFoundError
        If there is no h5 file of responses.
    ValueError
        If a transcript or a file of responses has another layout.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("sub-*_task-*_bold.h5"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no file sub-*_task-*_bold.h5; give the folder that holds fmri/ and stimuli/ of the "
            "challenge."
        )
    films = {_film(path): path for path in sorted(folder.rglob("*.mkv"))}
    told = {_film(path): path for path in sorted(folder.rglob("transcripts/**/*.tsv"))}
    names = sorted({*films, *told})
    stimuli = [Stimulus(name, _words(told[name]) if name in told else None, films.get(name)) for name in names]
    return Dataset("algonauts", stimuli, lambda: [run for path in files for run in _runs(path)], LICENCE)


def _film(path: Path) -> str:
    """Return the part's name without the name of its series: ``friends_s01e02a`` is ``s01e02a``."""
    return re.sub(r"^(friends|movie10|ood)_", "", path.stem)


def _words(path: Path) -> tuple[Word, ...]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    words = []
    for number, row in enumerate(rows, 2):
        if any(row.get(name) is None for name in _NEEDED):
            raise ValueError(f"{path.name} has the columns {', '.join(row)}; {', '.join(_NEEDED)} are needed.")
        try:
            said, onsets, lengths = (ast.literal_eval(row[name] or "[]") for name in _NEEDED)
            words.extend(
                Word(str(word), float(onset), float(onset) + float(length))
                for word, onset, length in zip(said, onsets, lengths, strict=True)
            )
        except (ValueError, SyntaxError, TypeError) as error:
            raise ValueError(f"{path.name}, line {number}: words, onsets and durations differ ({error}).") from error
    return tuple(words)


def _runs(path: Path) -> list[FmriRun]:
    import h5py

    subject = path.name.partition("_")[0]
    made = []
    try:
        with h5py.File(path, "r") as file:
            for key in file:
                found = _KEY.fullmatch(key)
                if found is None:
                    raise ValueError(f"its data set {key!r} is not named ses-<session>_task-<film>")
                values = np.asarray(file[key], np.float64)
                made.append(make_run(values, TR, subject, found["task"]))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path.name} cannot be read as responses of the challenge ({error}).") from error
    return made
