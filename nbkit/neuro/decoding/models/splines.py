"""Spherical-spline interpolation over the head, as a matrix.

The weights are computed through MNE's public interface, so an interpolated channel is the same as in MNE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mne


def spline_weights(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """Return the matrix that interpolates from source to target directions by spherical splines (Perrin et al., 1989).

    Each column is MNE's interpolation of a signal that is 1 at one source and 0 at the others.

    Parameters
    ----------
    sources, targets : sequence of ndarray of shape (3,)
        Unit vectors.

    Returns
    -------
    weights : ndarray of shape (targets, sources)
    """
    import mne

    def montage(places: Sequence[np.ndarray], head: float = 0.095) -> mne.channels.DigMontage:  # in m; any size will do
        return mne.channels.make_dig_montage(
            {f"{number:03d}": head * np.asarray(place) for number, place in enumerate(places)},
            nasion=[0, head, 0], lpa=[-head, 0, 0], rpa=[head, 0, 0], coord_frame="head",
        )  # fmt: skip

    info = mne.create_info([f"{number:03d}" for number in range(len(sources))], 1000.0, "eeg")
    one_by_one = mne.EvokedArray(np.eye(len(sources)), info, verbose="error").set_montage(montage(sources))
    onto = montage(targets)
    # The regularisation is that of MNE's bad channels; without it, splines diverge if two sensors are at one position.
    return one_by_one.interpolate_to(onto, origin=(0.0, 0.0, 0.0), method="spline", reg=1e-5).get_data()
