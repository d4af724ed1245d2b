"""One head with a value at each EEG channel, by MNE; channels whose places are not known are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.neuro.signals.intake.ch_names import electrode
from nbkit.neuro.signals.intake.cleaning import known_positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 4  # channels with known places for a head


def placed(ch_names: Sequence[str]) -> list[int]:
    """Return the indices of the channels whose places are known, by their names in the 10-05 system."""
    known = known_positions()
    return [number for number, name in enumerate(ch_names) if electrode(name) in known]


def draw_head(
    axes: Axes,
    values: np.ndarray,
    ch_names: Sequence[str],
    *,
    vlim: tuple[float, float],
    cmap: str = "RdBu_r",
    marked: np.ndarray | None = None,
) -> Any:
    """Draw values on the head and return the image, for a colour bar.

    Parameters
    ----------
    axes : matplotlib Axes
    values : array of shape (channels,)
    ch_names : sequence of str
        Four or more of them with known places; the others are left out.
    vlim : (float, float)
        Values of the first and the last colour.
    cmap : str
    marked : bool array of shape (channels,), optional
        Channels with a white dot.
    """
    import mne

    # splines would overshoot: colours between and beyond the electrodes that no electrode has
    rows = placed(ch_names)
    names = [ch_names[row] for row in rows]
    info = mne.create_info(names, 100.0, "eeg")
    places = {name: known_positions()[electrode(name)] for name in names}
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"), verbose="error")
    dots = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 5}
    image, _ = mne.viz.plot_topomap(
        np.asarray(values, float)[rows], info, axes=axes, show=False, cmap=cmap, vlim=vlim, contours=0,
        image_interp="linear",
        mask=None if marked is None else np.asarray(marked, bool)[rows], mask_params=dots,
    )  # fmt: skip
    return image
