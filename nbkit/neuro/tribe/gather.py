"""Training runs of each phase, from the store or from a synthetic world, and the region of each output.

Synthetic data are used only if the source "planted" is set, and the runs are labelled as such. All phases with the same
settings get the same world. No validation stimulus is in the training runs of any phase.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbkit.neuro.signals.imaging.atlas import Atlas, schaefer
from nbkit.neuro.signals.imaging.landmarks import named_regions
from nbkit.neuro.signals.imaging.surfaces import VERTICES
from nbkit.neuro.tribe.handover import stimuli_seen
from nbkit.neuro.tribe.metrics import mean_r_by_group
from nbkit.neuro.tribe.readers.datasets import fmri_runs
from nbkit.neuro.tribe.runs.blocks import cut_in_time
from nbkit.neuro.tribe.runs.events import features_of_events
from nbkit.neuro.tribe.runs.repeats import with_ceilings
from nbkit.neuro.tribe.runs.runs import (
    StimulusRun,
    make_stimulus_run,
    planted_runs,
    split_runs,
    stimulus_of,
    stored_runs,
)
from nbkit.neuro.tribe.stimuli.features import read_features
from nbkit.neuro.tribe.stimuli.segments import join_segments, read_segment, segments_by_video
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, planted_brain
from nbkit.neuro.tribe.student.fusion import MODALITIES

SOURCES = ("store", "planted")
Inputs = Callable[[str], list[Path]]
_SURFACES = tuple(2 * count for count in VERTICES.values())
# Stimuli of the synthetic world.
_HEARD, _TAUGHT, _MEASURED, _HELD_OUT = range(100, 124), range(16), range(4), range(40, 43)


@dataclass(frozen=True)
class Regions:
    """Regions of the outputs.

    Attributes
    ----------
    names : tuple of str
        Names of the networks; in a synthetic world, of the modalities.
    network : int array of shape (outputs,)
        Number of each output's network; below 0 for none.
    parcel : Tensor of shape (outputs,), int
        Groups of the loss's parcel term: parcels of vertices, or networks of parcels.
    on_surface : callable or None
        Maps values of shape (outputs,) to fsaverage, with NaN where there is no output; None if the places of the
        outputs are not known.
    named : tuple of str
        Names of regions beyond the networks, such as early visual cortex (see `named_regions`).
    place : int array of shape (outputs,), or None
        Number of each output's named region; below 0 for none.
    """

    names: tuple[str, ...]
    network: np.ndarray = field(repr=False)
    parcel: torch.Tensor = field(repr=False)
    on_surface: Callable[[np.ndarray], np.ndarray] | None = field(repr=False)
    named: tuple[str, ...] = ()
    place: np.ndarray | None = field(default=None, repr=False)

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Outputs of each named region and each network, bool of shape (outputs,), where there are any."""
        made = {} if self.place is None else {name: self.place == n for n, name in enumerate(self.named)}
        made |= {name: self.network == n for n, name in enumerate(self.names)}
        return {name: mask for name, mask in made.items() if mask.any()}

    def outlined(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the regions that a map outlines: their names, and the number of each output's region."""
        return (self.names, self.network) if self.place is None else (self.named, self.place)

    def mean_r(self, r: np.ndarray) -> dict[str, float]:
        """Return the mean r of each network's outputs; NaN for a network without outputs."""
        return mean_r_by_group(r, self.network, self.names)


def planted_world(n_outputs: int) -> SyntheticSettings:
    """Return settings of the synthetic world for a number of outputs: vertices of a surface, or else parcels."""
    parcels = 400 if n_outputs in _SURFACES else n_outputs
    return replace(SyntheticSettings.smoke(), n_outputs=n_outputs, parcels=parcels)


def planted_regions(n_outputs: int) -> Regions:
    """Return the regions of the synthetic world: the modality that drives each output."""
    world = planted_world(n_outputs)
    brain = planted_brain(world)
    group = brain.modality_of_output
    if n_outputs in _SURFACES:
        return Regions(MODALITIES, group, torch.from_numpy(brain.parcel_of_output), np.asarray)
    drawn = planted_brain(replace(world, n_outputs=2 * VERTICES["fsaverage4"])).parcel_of_output
    return Regions(MODALITIES, group, torch.from_numpy(group).long(), lambda values: np.asarray(values)[drawn])


def atlas_regions(n_outputs: int, folder: str | Path | None = None) -> tuple[Regions, Atlas]:
    """Return the regions from Schaefer's atlas, and the atlas on fsaverage5.

    Parameters
    ----------
    n_outputs : int
        Vertices of a surface (with 400 parcels), or parcels.
    folder : str or Path, optional
        Folder of the atlas files; without one, they are fetched.

    Returns
    -------
    regions : Regions
    atlas : Atlas
        Maps vertices to the outputs.
    """
    atlas = schaefer(400 if n_outputs in _SURFACES else n_outputs, folder)
    names = atlas.network_names
    of_parcel = np.array([names.index(network) for network in atlas.networks])
    named, place = named_regions(atlas)
    if n_outputs not in _SURFACES:
        return Regions(names, of_parcel, torch.from_numpy(of_parcel), atlas.spread, named, place), atlas
    surface = next(name for name, count in VERTICES.items() if 2 * count == n_outputs)
    labels = atlas.on(surface).labels.astype(int)
    network = np.where(labels > 0, of_parcel[np.maximum(labels, 1) - 1], -1)
    of_vertex = np.where(labels > 0, place[np.maximum(labels, 1) - 1], -1)
    return Regions(names, network, torch.from_numpy(labels - 1), np.asarray, named, of_vertex), atlas


def regions_of(source: str, n_outputs: int, folder: str | Path | None = None, names: Sequence[str] = ()) -> Regions:
    """Return the regions for a source of runs (see `planted_regions` and `atlas_regions`).

    Parameters
    ----------
    source : {"store", "planted"}
    n_outputs : int
    folder : str or Path, optional
        Folder of the atlas files.
    names : sequence of str
        Region of each output (`StimulusRun.outputs`); with these, no atlas is read.
    """
    _check(source)
    if names:
        kinds = tuple(dict.fromkeys(names))
        own = np.array([kinds.index(name) for name in names])
        return Regions(kinds, own, torch.from_numpy(own), None)
    return planted_regions(n_outputs) if source == "planted" else atlas_regions(n_outputs, folder)[0]


def heard(source: str, inputs: Inputs, settings: Any, val_prefix: str = "") -> tuple[list, list]:
    """Return the training and validation runs of phase 1: features only.

    Parameters
    ----------
    source : {"store", "planted"}
    inputs : callable
        Maps a phase's name to the files that it stored.
    settings : PretrainSettings
    val_prefix : str
        See `split_runs`.

    Returns
    -------
    train, val : list of StimulusRun
    """
    _check(source)
    if source == "planted":
        runs = planted_runs(planted_world(400), _HEARD, step_s=settings.step_s, teacher=False)
    else:
        runs = stored_runs(inputs("tribe_features"), step_s=settings.step_s)
    return split_runs(runs, val_prefix=val_prefix)


def taught(
    source: str, inputs: Inputs, settings: Any, val_prefix: str = "", folder: str | Path | None = None
) -> tuple[list, list]:
    """Return the training and validation runs of phase 2: stimuli with teacher predictions, on the fMRI's grid.

    Parameters
    ----------
    source : {"store", "planted"}
    inputs : callable
        Maps a phase's name to the files that it stored.
    settings : DistillSettings
    val_prefix : str
        See `split_runs`.
    folder : str or Path, optional
        Folder of the atlas files.

    Returns
    -------
    train, val : list of StimulusRun
    """
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
    reader: str = "",
    teacher: str = "tribe_teacher",
    start: str | Path | None = None,
    newcomer: bool = False,
) -> tuple[list, list]:
    """Return the training and validation runs of phase 3: stimuli with fMRI, and teacher predictions if there are any.

    Parameters
    ----------
    source : {"store", "planted"}
    inputs : callable
        Maps a phase's name to the files that it stored.
    settings : FmriSettings
        With ``blocks`` above 1, runs are cut in time (see `cut_in_time`), and blocks are held out.
    fmri : path or sequence of path
        npz files in a format of `read_run`, or a folder of them or of a data set; subjects are numbered in the order of
        their names.
    val_prefix : str
        See `split_runs`.
    folder : str or Path, optional
        Folder of the atlas files.
    reader : str
        Name of the data set's reader (see `open_dataset`); without one, the files are npz.
    teacher : str
        Phase of the teacher's segments; "" for none.
    start : str or Path, optional
        Checkpoint that phase 3 starts from: no stimulus that it was trained on is held out.
    newcomer : bool
        Return the runs of the person ``settings.newcomer`` alone; by default, those of everybody else.

    Returns
    -------
    train, val : list of StimulusRun

    Raises
    ------
    ValueError
        If no fMRI run belongs to a stimulus that has features.
    """
    _check(source)
    n_outputs, tr = settings.student.n_vertices, settings.student.tr
    if source == "planted":
        world = planted_world(n_outputs)
        people = range(world.subjects)
        made = (planted_runs(world, which, step_s=tr, subjects=people) for which in (_MEASURED, _HELD_OUT))
        return tuple([run for run in part if (run.subject == settings.newcomer) == newcomer] for part in made)
    scans = fmri_runs(reader, fmri)
    known = {features["video_id"]: features for features in map(read_features, inputs("tribe_features"))}
    told = inputs(teacher) if teacher else []
    segments = segments_by_video([path for path in told if path.suffix == ".pt"])
    people = sorted({scan.subject for scan in scans})
    named = all(scan.outputs for scan in scans)
    atlas = None if named else atlas_regions(n_outputs, folder)[1]
    runs: list[StimulusRun] = []
    for scan in scans:
        if scan.events:
            known[scan.video_id] = features_of_events(scan, known)
        if scan.video_id not in known:
            continue
        own = segments.get(scan.video_id)
        run = make_stimulus_run(
            known[scan.video_id], tr, fmri=scan, subject=people.index(scan.subject), n_outputs=n_outputs, atlas=atlas,
            segment=join_segments([read_segment(one) for one in own]) if own else None, weight=scan.weight,
            without=scan.without,
        )  # fmt: skip
        runs.extend(cut_in_time(run, settings.blocks))
    if not runs:
        raise ValueError(
            f"The {len(scans)} fMRI runs belong to {sorted({s.video_id for s in scans})[:5]}, the features to "
            f"{sorted(known)[:5]}: no stimulus has both. Set video_id in each run to the stimulus's name in "
            "61_tribe_features."
        )
    parts = split_runs(with_ceilings(runs), val_prefix=val_prefix, seen=stimuli_seen(start) if start else ())
    return tuple([run for run in part if (run.subject == settings.newcomer) == newcomer] for part in parts)


def unlabelled(source: str, inputs: Inputs, settings: Any, known: Collection[str], teacher: str = "") -> list:
    """Return the stimuli with features alone, which neither the teacher nor a subject saw.

    Parameters
    ----------
    source : {"store", "planted"}
    inputs : callable
        Maps a phase's name to the files that it stored.
    settings : FmriSettings
    known : collection of str
        Stimuli with fMRI.
    teacher : str
        Phase of the teacher's segments; "" for none.

    Returns
    -------
    runs : list of StimulusRun
        Without a target.
    """
    _check(source)
    tr = settings.student.tr
    if source == "planted":
        return planted_runs(planted_world(settings.student.n_vertices), _HEARD, step_s=tr, teacher=False)
    told = inputs(teacher) if teacher else []
    seen = {*map(stimulus_of, known), *segments_by_video([path for path in told if path.suffix == ".pt"])}
    runs = [make_stimulus_run(read_features(path), tr) for path in inputs("tribe_features")]
    return [run for run in runs if run.name not in seen]


def _check(source: str) -> None:
    if source not in SOURCES:
        raise ValueError(
            f"Source {source!r} is unknown; it may be 'store' (outputs of 60 and 61) or 'planted' (synthetic)."
        )
