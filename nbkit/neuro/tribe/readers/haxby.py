"""Blocks of pictures (Haxby et al., 2001, https://doi.org/10.1126/science.1063736): an event design for a reader.

The copy in PyMVPA's sources holds subject 1 in OpenfMRI's layout: 12 runs of 121 volumes at TR 2.5 s, one slice. Each
block of 22.5 s shows pictures of one category. The pictures are not in the data, so a stimulus is told by its events:
the name of the category, from the start to the end of its block.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nbkit.neuro.tribe.readers.datasets import Dataset, Stimulus
from nbkit.neuro.tribe.runs.targets import FmriRun, make_run
from nbkit.neuro.tribe.stimuli.decode import Word

LICENCE = "CC BY-SA 3.0; cite Haxby et al. (2001)"


def read_haxby(folder: str | Path) -> Dataset:
    """Return the blocks and runs of each subject in a folder of OpenfMRI's layout, with the slice's mask beside it.

    Raises
    ------
    FileNotFoundError
        If there are no runs, onsets or mask.
    """
    folder = Path(folder)
    root = folder if (folder / "scan_key.txt").is_file() else folder / "haxby2001"
    runs = sorted(root.glob("sub[0-9]*/BOLD/task001_run*/bold_1slice.nii.gz"))
    key = root / "models" / "model001" / "condition_key.txt"
    mask = root.parent / "mask.nii.gz"
    missing = [str(path) for path in (key, mask) if not path.is_file()]
    if not runs or missing:
        raise FileNotFoundError(
            f"{folder} holds {len(runs)} runs sub*/BOLD/task001_run*/bold_1slice.nii.gz and lacks "
            f"{', '.join(missing) or 'nothing else'}; give PyMVPA's folder haxby2001, beside mask.nii.gz."
        )
    names = {cells[1]: cells[2] for cells in map(str.split, key.read_text("utf-8").splitlines()) if len(cells) >= 3}
    stimuli = []
    for path in runs:
        words = _events(root, path, names)
        stimuli.append(Stimulus(_video(path), words, None, "text"))
    return Dataset("haxby", stimuli, lambda: [_run(path, root, mask) for path in runs], LICENCE)


def _video(path: Path) -> str:
    return f"{path.parts[-4]}-run{path.parent.name[-3:]}"


def _events(root: Path, path: Path, names: dict[str, str]) -> tuple[Word, ...]:
    """Return the blocks of a run, in order of time."""
    folder = root / path.parts[-4] / "model" / "model001" / "onsets" / path.parent.name
    words = []
    for table in sorted(folder.glob("cond*.txt")):
        for onset, length, _ in np.loadtxt(table, ndmin=2):
            words.append(Word(names[table.stem], float(onset), float(onset + length)))
    if not words:
        raise FileNotFoundError(f"{folder} holds no onsets cond*.txt; they are needed to tell what was shown.")
    return tuple(sorted(words, key=lambda word: word.start_s))


def _run(path: Path, root: Path, mask: Path) -> FmriRun:
    """Return a run's voxels in the mask; the movement of the head is removed if it is there."""
    import nibabel

    image = nibabel.load(path)
    inside = np.asarray(nibabel.load(mask).dataobj) > 0
    values = np.asarray(image.dataobj, np.float64)[inside].T
    moved = path.parent / "bold_moest.txt"
    confounds = np.loadtxt(moved, ndmin=2) if moved.is_file() else None
    side = np.where(np.nonzero(inside)[0] < inside.shape[0] / 2, "first half of x", "second half of x")
    run = make_run(values, float(image.header.get_zooms()[3]), path.parts[-4], _video(path), confounds=confounds)
    return replace(run, outputs=tuple(side.tolist()))
