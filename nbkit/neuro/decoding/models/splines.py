"""Spherical splines over the head, as a matrix.

What MNE computes, through its public interface, so an interpolated channel here is the one that MNE would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mne


def spline_weights(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """Return spherical splines (Perrin et al., 1989) through directions, evaluated at others, as a matrix.

    It is what MNE's interpolation makes of one source after the other being 1.

    Parameters
    ----------
    sources, targets : sequence of ndarray of shape (3,)
        Of length 1.

    Returns
    -------
    weights : ndarray of shape (targets, sources)
    """
    import mne

    def montage(places: Sequence[np.ndarray], head: float = 0.095) -> mne.channels.DigMontage:  # its size is free, in m
        return mne.channels.make_dig_montage(
            {f"{number:03d}": head * np.asarray(place) for number, place in enumerate(places)},
            nasion=[0, head, 0], lpa=[-head, 0, 0], rpa=[head, 0, 0], coord_frame="head",
        )  # fmt: skip

    info = mne.create_info([f"{number:03d}" for number in range(len(sources))], 1000.0, "eeg")
    one_by_one = mne.EvokedArray(np.eye(len(sources)), info, verbose="error").set_montage(montage(sources))
    onto = montage(targets)
    # The regularisation is that of MNE's bad channels; without it two sensors at one place make the splines explode.
    return one_by_one.interpolate_to(onto, origin=(0.0, 0.0, 0.0), method="spline", reg=1e-5).get_data()
