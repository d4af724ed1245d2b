"""Regions that encoding papers name, found in Schaefer's atlas by network and by the distance to a landmark.

The seven networks do not separate early vision from late, or hearing from the hand. A parcel belongs to a region if it
is of one of its networks and its centre on the pial surface is near one of the landmarks, which are rounded MNI
coordinates: the calcarine fissure, Heschl's gyrus, and the peaks of the left language network (Fedorenko et al., 2010).
The borders are approximate; a localiser of one's own is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbkit.neuro.signals.imaging.atlas import Atlas
from nbkit.neuro.signals.imaging.surfaces import HEMISPHERES, mesh


@dataclass(frozen=True)
class Landmark:
    """A region by networks, landmarks in mm (x, y, z; left negative), and the largest distance, in mm."""

    name: str
    networks: tuple[str, ...]
    places: tuple[tuple[float, float, float], ...] = ()
    within_mm: float = 0.0


# in this order: a parcel is of the first region that claims it
REGIONS = (
    Landmark("early visual", ("Vis",), ((-10, -88, 2), (10, -88, 2)), 20.0),
    Landmark("auditory", ("SomMot",), ((-48, -22, 8), (48, -22, 8)), 18.0),
    Landmark(
        "language", ("Default", "Cont", "SalVentAttn", "DorsAttn", "Limbic"),
        ((-56, -42, 2), (-56, -12, -12), (-50, 22, 10)), 17.0,
    ),
    Landmark("default mode", ("Default",)),
)  # fmt: skip


def named_regions(atlas: Atlas) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the regions, and the region of each parcel.

    Parameters
    ----------
    atlas : Atlas
        Schaefer's, with its seven networks.

    Returns
    -------
    names : tuple of str
    region : int array of shape (parcels,)
        Index in ``names``; -1 for a parcel of none.
    """
    points = np.concatenate([mesh(atlas.surface, "pial", side)[0] for side in HEMISPHERES])
    centres = np.stack([
        points[atlas.labels == number + 1].mean(0) if (atlas.labels == number + 1).any() else np.full(3, np.inf)
        for number in range(len(atlas.parcels))
    ])  # fmt: skip
    region = np.full(len(atlas.parcels), -1)
    for number, one in enumerate(REGIONS):
        mine = np.isin(atlas.networks, one.networks) & (region < 0)
        if one.places:
            far = np.linalg.norm(centres[:, None] - np.array(one.places, float), axis=2).min(1)
            mine &= far <= one.within_mm
        region[mine] = number
    return tuple(one.name for one in REGIONS), region
