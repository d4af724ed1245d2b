"""Event designs: the features of a run, put together from those of the clips that it showed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbkit.neuro.tribe.runs.targets import FmriRun
from nbkit.neuro.tribe.stimuli.features import FEATURE_HZ, MODALITIES, feature_steps, pack_features


def features_of_events(run: FmriRun, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the features of a run: each clip's at its onset, and zeros between.

    Parameters
    ----------
    run : FmriRun
        With events.
    known : mapping of str to mapping
        Features of the clips by name.

    Returns
    -------
    features : dict
        See `pack_features`. A modality is present if it is in every clip.

    Raises
    ------
    ValueError
        If no clip, or not every clip, has features.
    """
    names = {event.video_id for event in run.events}
    missing = sorted(names - set(known))
    if missing:
        raise ValueError(
            f"{run.video_id} shows {len(names)} clips, and {len(missing)} have no features ({missing[0]}, ...); run "
            "61_tribe_features on all of them."
        )
    duration = len(run.fmri) * run.tr
    steps = feature_steps(duration)
    present = np.all([known[name]["present"] for name in names], axis=0)
    made: dict[str, Any] = {name: None for name in MODALITIES}
    for number, modality in enumerate(MODALITIES):
        if not present[number]:
            continue
        whole = np.zeros((steps, known[run.events[0].video_id][modality].shape[1]), np.float32)
        for event in run.events:
            clip = np.asarray(known[event.video_id][modality], np.float32)
            begin = round(event.onset_s * FEATURE_HZ)
            length = min(len(clip), max(1, round(event.duration_s * FEATURE_HZ)), steps - begin)
            if begin >= 0 and length > 0:
                whole[begin : begin + length] = clip[:length]
        made[modality] = whole
    some = known[run.events[0].video_id]
    return pack_features(run.video_id, duration, **made, data=str(some["data"]), weights=str(some["weights"]))
