"""Stories heard in the scanner (LeBel et al., 2023, https://doi.org/10.1038/s41597-023-02437-z; OpenNeuro ds003020).

``TextGrids/<story>.TextGrid`` holds the words, ``preprocessed_data/<subject>/<story>.hf5`` the responses (``data``,
volumes by voxels, TR 2.0045 s). The authors cut ten seconds from the start of each response, so volume 0 is ten seconds
into the story. Voxels differ between subjects: project them to fsaverage or parcels first; the files are then read as
they are. Nothing was seen, so video is absent, and the seed project gives the stories a weight of 0.3.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nbkit.neuro.tribe.readers.datasets import Dataset, Stimulus
from nbkit.neuro.tribe.readers.textgrid import read_textgrid
from nbkit.neuro.tribe.runs.targets import FmriRun, make_run
from nbkit.neuro.tribe.stimuli.segments import KEPT

TR, CUT_S, WEIGHT = 2.0045, 10.0, 0.3
LICENCE = "CC0; cite LeBel et al. (2023)"
_SOUNDS = (".wav", ".mp3", ".flac", ".ogg")


def read_lebel(folder: str | Path) -> Dataset:
    """Return the stories and runs of a folder of the data set.

    Raises
    ------
    FileNotFoundError
        If there are no TextGrids or responses.
    ValueError
        If responses are voxels, or a file is damaged.
    """
    folder = Path(folder)
    grids = {path.stem: path for path in sorted(folder.rglob("*.TextGrid"))}
    files = sorted(path for path in folder.rglob("*.hf5") if path.stem in grids)
    if not grids or not files:
        raise FileNotFoundError(
            f"{folder} holds {len(grids)} TextGrid files and {len(files)} responses <subject>/<story>.hf5 to them; "
            "give the folder derivative of ds003020, with TextGrids and preprocessed_data."
        )
    sounds = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SOUNDS}
    stimuli = []
    for story in sorted({path.stem for path in files}):
        # the clock of the stimulus begins with volume 0, so that volume k is at k * TR
        words = tuple(read_textgrid(grids[story], "word", 0.0))
        kind = "audio+text" if story in sounds else "text"
        stimuli.append(Stimulus(story, words, sounds.get(story), kind))
    return Dataset("lebel", stimuli, lambda: [_run(path) for path in files], LICENCE)


def _run(path: Path) -> FmriRun:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            values = np.asarray(file["data"], np.float64)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read as responses ({error}); download it again.") from error
    if values.ndim != 2 or values.shape[1] not in KEPT.values():
        known = ", ".join(f"{count} ({name})" for name, count in KEPT.items())
        raise ValueError(
            f"{path.parent.name}/{path.name} has the shape {values.shape}: voxels of this subject. Project them to one "
            f"of {known} with the subject's pycortex transform, and save them under the same name."
        )
    first = round(CUT_S / TR)
    run = make_run(values, TR, path.parent.name, path.stem)
    # the volumes that were cut return as volumes that count nowhere
    padded = np.concatenate([np.zeros((first, values.shape[1]), np.float32), run.fmri])
    valid = np.arange(len(padded)) >= first
    return replace(run, fmri=padded, valid=valid, weight=WEIGHT, without=("video",))
