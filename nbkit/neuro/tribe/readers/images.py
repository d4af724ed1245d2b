"""A folder of NIfTI or GIFTI runs, taken to fsaverage5 by nilearn.

Files are named as in BIDS: ``sub-01_task-film_run-1_..._bold.nii.gz``, or two surface files with ``hemi-L`` and
``hemi-R`` (``.func.gii``), or an npy array of (volumes, outputs). A run's stimulus is its task, or task and run if the
task has several: ``film``, ``film-1``. Films, sounds and words (``film.words.tsv``, ``film.TextGrid``) are named so.
Volumes must be in MNI space: they are sampled between white matter and pial surface. The TR is that of the image, or of
the JSON file beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nbkit.neuro.signals.imaging.surfaces import HEMISPHERES, mesh
from nbkit.neuro.tribe.readers.datasets import Dataset, Stimulus
from nbkit.neuro.tribe.readers.textgrid import read_textgrid
from nbkit.neuro.tribe.runs.targets import FmriRun, make_run
from nbkit.neuro.tribe.stimuli.decode import WORDS, read_words
from nbkit.neuro.tribe.stimuli.stimuli import AUDIO_SUFFIXES, VIDEO_SUFFIXES

_ENDS = ("_bold.nii.gz", "_bold.nii", ".func.gii", "_bold.npy")
_ENTITY = re.compile(r"(sub|task|run|hemi)-([A-Za-z0-9]+)")


def read_images(folder: str | Path) -> Dataset:
    """Return the stimuli and runs of a folder of images.

    Raises
    ------
    FileNotFoundError
        If there is no image with a subject and a task in its name.
    """
    folder = Path(folder)
    images = [path for path in sorted(folder.rglob("*")) if path.name.endswith(_ENDS) and _named(path)]
    images = [path for path in images if _named(path).get("hemi") != "R"]  # the left file brings the right one
    if not images:
        raise FileNotFoundError(
            f"{folder} holds no image sub-<subject>_task-<task>[_run-<run>]... that ends with {', '.join(_ENDS)}."
        )
    names = sorted({_video(path, images) for path in images})
    return Dataset("images", [_stimulus(folder, name) for name in names], lambda: [_run(p, images) for p in images])


def read_image(path: Path, subject: str, video_id: str) -> FmriRun:
    """Return an image as a run: on fsaverage5, or as it is for an array.

    Parameters
    ----------
    path : Path
        A volume, a left surface file (the right one is beside it), or an npy array.
    subject, video_id : str

    Raises
    ------
    ValueError
        If the image cannot be read, has no time axis or no TR.
    FileNotFoundError
        If the right surface file is missing.
    """
    from nibabel.filebasedimages import ImageFileError

    try:
        values, tr = _values(path)
    except (ImageFileError, OSError, EOFError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path.name} cannot be read as a run ({error}).") from error
    return make_run(values, tr, subject, video_id)


def _values(path: Path) -> tuple[np.ndarray, float]:
    import nibabel

    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False), _tr(path, 0.0)
    image = nibabel.load(path)
    if path.name.endswith(".gii"):
        other = path.with_name(path.name.replace("hemi-L", "hemi-R"))
        if other == path or not other.is_file():
            raise FileNotFoundError(f"{path.parent} lacks {other.name}, the right hemisphere of {path.name}.")
        both = [np.stack([array.data for array in one.darrays]) for one in (image, nibabel.load(other))]
        return np.concatenate(both, axis=1), _tr(path, 0.0)
    if image.ndim != 4:
        raise ValueError(f"it has {image.ndim} dimensions, not 4 with time")
    return _on_surface(image), _tr(path, float(image.header.get_zooms()[3]))


def _on_surface(image) -> np.ndarray:  # noqa: ANN001 - nibabel is imported where it is used
    """Return a volume's values at fsaverage5's vertices, shape (volumes, vertices), means across the cortex."""
    from nilearn.surface import vol_to_surf

    parts = []
    for side in HEMISPHERES:
        sampled = vol_to_surf(image, mesh("fsaverage5", "pial", side), inner_mesh=mesh("fsaverage5", "white", side))
        parts.append(np.nan_to_num(np.asarray(sampled, np.float64)).T)
    return np.concatenate(parts, axis=1)


def _tr(path: Path, own: float) -> float:
    beside = path.with_name(re.sub(r"(\.nii(\.gz)?|\.func\.gii|\.npy)$", ".json", path.name))
    if beside.is_file():
        return float(json.loads(beside.read_text("utf-8"))["RepetitionTime"])
    if not own > 0:
        raise ValueError(f"it has no TR; write {beside.name} with RepetitionTime in s beside it")
    return own


def _named(path: Path) -> dict[str, str]:
    found = dict(_ENTITY.findall(path.name))
    return found if {"sub", "task"} <= set(found) else {}


def _video(path: Path, images: Sequence[Path]) -> str:
    own = _named(path)
    several = len({_named(other).get("run") for other in images if _named(other)["task"] == own["task"]}) > 1
    return f"{own['task']}-{own['run']}" if several and "run" in own else own["task"]


def _run(path: Path, images: Sequence[Path]) -> FmriRun:
    return read_image(path, f"sub-{_named(path)['sub']}", _video(path, images))


def _stimulus(folder: Path, name: str) -> Stimulus:
    files = {path.name: path for path in sorted(folder.rglob(f"{name}.*"))}
    media = next((p for n, p in files.items() if p.suffix.lower() in VIDEO_SUFFIXES + AUDIO_SUFFIXES), None)
    words = None
    if name + WORDS in files:
        words = tuple(read_words(files[name + WORDS]))
    elif f"{name}.TextGrid" in files:
        words = tuple(read_textgrid(files[f"{name}.TextGrid"]))
    return Stimulus(name, words, media)
