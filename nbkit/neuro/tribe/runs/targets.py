"""Training targets: fMRI runs and teacher predictions on the student's output grid.

A run is z-scored over time. Constant vertices are zero and marked in ``keep``. Volume k is at ``k * tr`` seconds after
the stimulus began. Parcels are means over the kept vertices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nbkit.neuro.signals.imaging.atlas import Atlas
from nbkit.neuro.signals.imaging.bold import clean_bold
from nbkit.neuro.signals.imaging.surfaces import pool_vertices, surface_of
from nbkit.neuro.tribe.stimuli.segments import N_VERTICES

REST = "rest"


class Event(NamedTuple):
    """A stimulus that was shown within a run, with its onset and length, in s from volume 0."""

    onset_s: float
    duration_s: float
    video_id: str


@dataclass(frozen=True)
class FmriRun:
    """One fMRI run of one subject.

    Attributes
    ----------
    fmri : float32 array of shape (volumes, outputs)
        Response, z-scored over time.
    keep : bool array of shape (outputs,)
        False for constant outputs: they are zero, and no loss or score uses them.
    tr : float
        Repetition time, in s.
    subject : str
    video_id : str
        Name of the stimulus; "rest" if there was none.
    data : str
        "real", or the description of synthetic data.
    ceiling : float or None
        Noise ceiling of r, if known.
    outputs : tuple of str
        Region of each output, if it is not a vertex or a parcel of an atlas; empty otherwise.
    given : ndarray of shape (volumes, regressors), or None
        Regressors that came with the data, already under a haemodynamic response.
    given_names : tuple of str
    weight : float
        Weight of the run in a loss.
    without : tuple of str
        Modalities of the stimulus that the subject did not have, such as video for a story that was only heard.
    valid : bool array of shape (volumes,), or None
        Volumes that count in losses and scores; None for all.
    events : tuple of Event
        Stimuli of an event design; with some, ``video_id`` names the run, and its stimulus is put together from them.
    """

    fmri: np.ndarray = field(repr=False)
    keep: np.ndarray = field(repr=False)
    tr: float
    subject: str
    video_id: str
    data: str = "real"
    ceiling: float | None = None
    outputs: tuple[str, ...] = ()
    given: np.ndarray | None = field(default=None, repr=False)
    given_names: tuple[str, ...] = ()
    weight: float = 1.0
    without: tuple[str, ...] = ()
    valid: np.ndarray | None = field(default=None, repr=False)
    events: tuple[Event, ...] = field(default=(), repr=False)

    def to_outputs(self, n_outputs: int, atlas: Atlas | None = None) -> FmriRun:
        """Return the run on another set of outputs, z-scored there (see the function `to_outputs`)."""
        if n_outputs == self.fmri.shape[1]:
            return self
        values = to_outputs(self.fmri, n_outputs, atlas, self.keep)
        cleaned = clean_bold(values, detrend=False, keep=np.isfinite(values).all(axis=0))
        return replace(self, fmri=cleaned.values, keep=cleaned.keep)


def make_run(
    fmri: np.ndarray, tr: float, subject: str, video_id: str, *, data: str = "real", ceiling: float | None = None,
    detrend: bool = True, confounds: np.ndarray | None = None,
) -> FmriRun:  # fmt: skip
    """Clean an fMRI series and return it as a run.

    Parameters
    ----------
    fmri : ndarray of shape (volumes, outputs)
    tr : float
        Repetition time, in s.
    subject, video_id : str
    data : str
        "real", or the description of synthetic data.
    ceiling : float, optional
        Noise ceiling of r.
    detrend : bool
        Remove slow trends.
    confounds : ndarray of shape (volumes, confounds), optional
        Regressors to remove.

    Returns
    -------
    run : FmriRun

    Raises
    ------
    ValueError
        If there are NaN values or fewer than two volumes, or the TR is not between 0 and 60 s.
    """
    fmri = np.asarray(fmri)
    if fmri.ndim != 2 or len(fmri) < 2:
        raise ValueError(
            f"Run {subject} {video_id}: fMRI of shape {fmri.shape}; give (volumes, outputs), two volumes or more."
        )
    if not (np.isfinite(tr) and 0 < tr < 60):
        raise ValueError(f"Run {subject} {video_id}: TR {tr} s; it must be between 0 and 60 s.")
    cleaned = clean_bold(fmri, detrend=detrend, confounds=confounds)
    return FmriRun(cleaned.values, cleaned.keep, round(float(tr), 6), str(subject), str(video_id), data, ceiling)


def read_run(path: str | Path, subject: str | None = None, video_id: str | None = None) -> FmriRun:
    """Load a run from an npz file.

    There are two layouts: ``fmri`` (volumes, outputs) with ``tr``, ``subject``, ``video_id`` and, if known, ``ceiling``
    and ``data``; or ``data_int16`` (vertices, volumes) with ``scale`` and ``tr_s``, on fsaverage5 and at rest.

    Parameters
    ----------
    path : str or Path
    subject, video_id : str, optional
        They replace those of the file.

    Returns
    -------
    run : FmriRun

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it has another layout, or its content is not a valid run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give an npz file of one fMRI run.")
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    if "data_int16" in arrays:
        series = (arrays["data_int16"].astype(np.float32) * arrays["scale"][:, None]).T
        if series.shape[1] != N_VERTICES:
            raise ValueError(f"{path} has {series.shape[1]} vertices; fsaverage5 has {N_VERTICES}.")
        return make_run(series, float(arrays["tr_s"]), subject or path.stem, video_id or REST)
    return run_of(arrays, subject, video_id, str(path))


def run_of(
    arrays: Mapping[str, Any], subject: str | None = None, video_id: str | None = None, name: str = "the run"
) -> FmriRun:
    """Return the run in a mapping of arrays, such as that of `synthetic_fmri`."""
    missing = [key for key in ("fmri", "tr") if key not in arrays]
    if missing:
        raise ValueError(
            f"Data missing: {name} has {', '.join(sorted(arrays))}; an fMRI run has fmri and tr, or data_int16 and "
            "scale."
        )
    ceiling = arrays.get("ceiling")
    return make_run(
        arrays["fmri"], float(arrays["tr"]), subject or str(arrays.get("subject", name)),
        video_id or str(arrays.get("video_id", REST)), data=str(arrays.get("data", "real")),
        ceiling=None if ceiling is None else float(ceiling),
    )  # fmt: skip


def to_outputs(
    values: np.ndarray, n_outputs: int, atlas: Atlas | None = None, keep: np.ndarray | None = None
) -> np.ndarray:
    """Convert values on a surface to the outputs of a student.

    Parameters
    ----------
    values : ndarray of shape (time, vertices)
    n_outputs : int
        Number of vertices (20484, or 5124 by pooling), or number of parcels of the atlas.
    atlas : Atlas, optional
        Atlas on the surface of the values or a finer one; needed for parcels.
    keep : bool array of shape (vertices,), optional
        Vertices to use in parcel means.

    Returns
    -------
    outputs : ndarray of shape (time, n_outputs)
        NaN for parcels (or pooled vertices) without kept vertices.

    Raises
    ------
    ValueError
        If neither a surface nor the atlas has this number of outputs.
    """
    values = np.asarray(values)
    if n_outputs == values.shape[-1]:
        return values
    if atlas is not None and n_outputs == len(atlas.parcels):
        here = atlas if values.shape[-1] == len(atlas.labels) else atlas.on(surface_of(values.shape[-1]))
        return here.means(values, keep).astype(np.float32)
    try:
        coarse = surface_of(n_outputs)
    except ValueError as error:
        parcels = "no atlas was given" if atlas is None else f"{atlas.name} has {len(atlas.parcels)} parcels"
        raise ValueError(
            f"No map to {n_outputs} outputs: {error} For parcels, give an atlas with that number; {parcels}."
        ) from None
    pooled = pool_vertices(values, coarse).astype(np.float32)
    if keep is not None:
        pooled = np.where(pool_vertices(keep, coarse), pooled, np.nan)
    return pooled
