"""What each phase trains on, from the store or made up, and which region each output is of.

A made-up world stands in only where it was asked for by name; the runs then say so themselves. Every phase of one
settings gets the same world, and no stimulus that is validated on is in any phase's training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbkit.neuro.signals.imaging.atlas import Atlas, schaefer
from nbkit.neuro.signals.imaging.surfaces import VERTICES
from nbkit.neuro.tribe.metrics import mean_r_by_group
from nbkit.neuro.tribe.runs.runs import StimulusRun, make_stimulus_run, planted_runs, split_runs, stored_runs
from nbkit.neuro.tribe.runs.targets import read_run
from nbkit.neuro.tribe.stimuli.features import read_features
from nbkit.neuro.tribe.stimuli.segments import join_segments, read_segment, segments_by_video
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, planted_brain
from nbkit.neuro.tribe.student.fusion import MODALITIES

SOURCES = ("store", "planted")
Inputs = Callable[[str], list[Path]]
_SURFACES = tuple(2 * count for count in VERTICES.values())
_HEARD, _TAUGHT, _MEASURED, _HELD_OUT = range(100, 124), range(16), range(4), range(40, 43)  # planted stimuli


@dataclass(frozen=True)
class Regions:
    """Say where each output lies.

    Attributes
    ----------
    names : tuple of str
        Of the networks; of the planted modalities in a made-up world.
    network : int array of shape (outputs,)
        Below 0 for none.
    parcel : Tensor of shape (outputs,), int
        What the parcels' loss term averages over: parcels of vertices, or networks of parcels.
    on_surface : callable
        From values of shape (outputs,) to a map on fsaverage, NaN where there is none.
    """

    names: tuple[str, ...]
    network: np.ndarray = field(repr=False)
    parcel: torch.Tensor = field(repr=False)
    on_surface: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    def mean_r(self, r: np.ndarray) -> dict[str, float]:
        """Return the mean of each network's outputs; NaN for one without any."""
        return mean_r_by_group(r, self.network, self.names)


def planted_world(n_outputs: int) -> SyntheticSettings:
    """Return the made-up world with so many outputs: vertices of a surface, or else parcels."""
    parcels = 400 if n_outputs in _SURFACES else n_outputs
    return replace(SyntheticSettings.smoke(), n_outputs=n_outputs, parcels=parcels)


def planted_regions(n_outputs: int) -> Regions:
    """Return the regions of the made-up world: which modality drives each output."""
    world = planted_world(n_outputs)
    brain = planted_brain(world)
    group = brain.modality_of_output
    if n_outputs in _SURFACES:
        return Regions(MODALITIES, group, torch.from_numpy(brain.parcel_of_output), np.asarray)
    drawn = planted_brain(replace(world, n_outputs=2 * VERTICES["fsaverage4"])).parcel_of_output
    return Regions(MODALITIES, group, torch.from_numpy(group).long(), lambda values: np.asarray(values)[drawn])


def atlas_regions(n_outputs: int, folder: str | Path | None = None) -> tuple[Regions, Atlas]:
    """Return the regions by Schaefer's atlas, and the atlas on fsaverage5 that brings vertices to the outputs.

    Parameters
    ----------
    n_outputs : int
        Vertices of a surface (then of 400 parcels), or parcels.
    folder : path, optional
        Of the atlas's files; fetched where not given.
    """
    atlas = schaefer(400 if n_outputs in _SURFACES else n_outputs, folder)
    names = atlas.network_names
    of_parcel = np.array([names.index(network) for network in atlas.networks])
    if n_outputs not in _SURFACES:
        return Regions(names, of_parcel, torch.from_numpy(of_parcel), atlas.spread), atlas
    surface = next(name for name, count in VERTICES.items() if 2 * count == n_outputs)
    labels = atlas.on(surface).labels.astype(int)
    network = np.where(labels > 0, of_parcel[np.maximum(labels, 1) - 1], -1)
    return Regions(names, network, torch.from_numpy(labels - 1), np.asarray), atlas


def regions_of(source: str, n_outputs: int, folder: str | Path | None = None) -> Regions:
    """Return the regions for a source of runs (see `planted_regions` and `atlas_regions`)."""
    _check(source)
    return planted_regions(n_outputs) if source == "planted" else atlas_regions(n_outputs, folder)[0]


def heard(source: str, inputs: Inputs, settings: Any, val_prefix: str = "") -> tuple[list, list]:
    """Return phase 1's training and validation runs: features alone."""
    _check(source)
    if source == "planted":
        runs = planted_runs(planted_world(400), _HEARD, step_s=settings.step_s, teacher=False)
    else:
        runs = stored_runs(inputs("tribe_features"), step_s=settings.step_s)
    return split_runs(runs, val_prefix=val_prefix)


def taught(
    source: str, inputs: Inputs, settings: Any, val_prefix: str = "", folder: str | Path | None = None
) -> tuple[list, list]:
    """Return phase 2's runs: stimuli that the teacher has spoken of, on the fMRI's grid."""
    _check(source)
    n_outputs, tr = settings.student.n_vertices, settings.student.tr
    if source == "planted":
        world = planted_world(n_outputs)
        return tuple(planted_runs(world, which, step_s=tr) for which in (_TAUGHT, _HELD_OUT))
    atlas = atlas_regions(n_outputs, folder)[1]
    segments = [path for path in inputs("tribe_teacher") if path.suffix == ".pt"]
    runs = stored_runs(inputs("tribe_features"), segments, step_s=tr, n_outputs=n_outputs, atlas=atlas)
    return split_runs(runs, val_prefix=val_prefix)


def measured(
    source: str,
    inputs: Inputs,
    settings: Any,
    fmri: Sequence[str | Path] | str | Path = (),
    val_prefix: str = "",
    folder: str | Path | None = None,
) -> tuple[list, list]:
    """Return phase 3's runs: stimuli with a subject's fMRI, and the teacher's word where there is one.

    Parameters
    ----------
    fmri : path or sequence of path
        npz files of `read_run`, or a folder of them; subjects are numbered in the order of their names.

    Raises
    ------
    ValueError
        If no fMRI run is of a stimulus that has features.
    """
    _check(source)
    n_outputs, tr = settings.student.n_vertices, settings.student.tr
    if source == "planted":
        world = planted_world(n_outputs)
        people = range(world.subjects)
        return tuple(planted_runs(world, which, step_s=tr, subjects=people) for which in (_MEASURED, _HELD_OUT))
    paths = sorted(Path(fmri).glob("*.npz")) if isinstance(fmri, str | Path) else [Path(path) for path in fmri]
    scans = [read_run(path) for path in paths]
    known = {features["video_id"]: features for features in map(read_features, inputs("tribe_features"))}
    segments = segments_by_video([path for path in inputs("tribe_teacher") if path.suffix == ".pt"])
    people = sorted({scan.subject for scan in scans})
    atlas = atlas_regions(n_outputs, folder)[1]
    runs: list[StimulusRun] = []
    for scan in scans:
        if scan.video_id not in known:
            continue
        own = segments.get(scan.video_id)
        runs.append(
            make_stimulus_run(
                known[scan.video_id],
                tr,
                fmri=scan,
                subject=people.index(scan.subject),
                segment=join_segments([read_segment(one) for one in own]) if own else None,
                n_outputs=n_outputs,
                atlas=atlas,
            )
        )
    if not runs:
        raise ValueError(
            f"{len(scans)} fMRI runs are of {sorted({s.video_id for s in scans})[:5]}, features of "
            f"{sorted(known)[:5]}: none is of both. Name the stimulus in the run's video_id as in 61_tribe_features."
        )
    return split_runs(runs, val_prefix=val_prefix)


def _check(source: str) -> None:
    if source not in SOURCES:
        raise ValueError(f"source {source!r} is none; it may be 'store' (60 and 61's outputs) or 'planted' (made up).")
