"""One head with a value at each EEG channel, by MNE; channels whose places are not known are left out.

Places come from names: the 10-05 system, EGI's nets, and a difference of two electrodes half-way between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.neuro.signals.positions import places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 2  # channels with known places for a head
_FIELD = 8  # from which values are drawn between channels, too; fewer are discs, because nothing is known between them
_HEAD_M = 0.095  # radius of MNE's head, whose circle is at the height of its centre


def placed(ch_names: Sequence[str]) -> list[int]:
    """Return the indices of the channels whose places are known by their names."""
    known = places(ch_names)
    return [number for number, name in enumerate(ch_names) if name in known]


def draw_head(
    axes: Axes,
    values: np.ndarray,
    ch_names: Sequence[str],
    *,
    vlim: tuple[float, float],
    cmap: str = "RdBu_r",
    marked: np.ndarray | None = None,
) -> Any:
    """Draw values on the head and return the image, for a colour bar; fewer than eight channels are discs.

    Parameters
    ----------
    axes : matplotlib Axes
    values : array of shape (channels,)
    ch_names : sequence of str
        Two or more of them with known places; the others are left out.
    vlim : (float, float)
        Values of the first and the last colour.
    cmap : str
    marked : bool array of shape (channels,), optional
        Channels with a white dot.
    """
    import mne

    # splines would overshoot: colours between and beyond the electrodes that no electrode has
    known = places(ch_names)
    rows = [number for number, name in enumerate(ch_names) if name in known]
    info = mne.create_info([ch_names[row] for row in rows], 100.0, "eeg")
    info.set_montage(mne.channels.make_dig_montage(known, coord_frame="head"), verbose="error")
    dots = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 5}
    here, dotted = np.asarray(values, float)[rows], None if marked is None else np.asarray(marked, bool)[rows]
    if len(rows) < _FIELD:
        return _draw_discs(axes, here, info, known, vlim=vlim, cmap=cmap, marked=dotted)
    image, _ = mne.viz.plot_topomap(
        here, info, axes=axes, show=False, cmap=cmap, vlim=vlim, contours=0,
        image_interp="linear",
        mask=dotted, mask_params=dots,
    )  # fmt: skip
    return image


def _draw_discs(axes: Axes, values: np.ndarray, info: Any, known: dict[str, np.ndarray], **look: Any) -> Any:
    """Draw a disc with its name for each channel on an empty head; a marked one has a white dot."""
    import mne

    field, _ = mne.viz.plot_topomap(np.zeros(4), _outline(), axes=axes, show=False, contours=0, sensors=False)
    field.set_visible(False)
    place = np.stack([known[name] for name in info.ch_names])
    tilt = np.arccos(place[:, 2] / np.linalg.norm(place, axis=1)) * _HEAD_M / (np.pi / 2)
    across = np.hypot(place[:, 0], place[:, 1]).clip(1e-9)
    x, y = tilt * place[:, 0] / across, tilt * place[:, 1] / across
    found = axes.scatter(
        x, y, c=values, s=260, cmap=look["cmap"], vmin=look["vlim"][0], vmax=look["vlim"][1], zorder=5,
        edgecolors="black", linewidths=0.6, clip_on=False,
    )  # fmt: skip
    dots = np.zeros(len(values), bool) if look["marked"] is None else look["marked"]
    axes.plot(x[dots], y[dots], "o", color="white", markeredgecolor="black", markersize=5, zorder=6, clip_on=False)
    for name, left, up in zip(info.ch_names, x, y, strict=True):
        axes.annotate(name, (left, up), (0, -17), textcoords="offset points", ha="center", fontsize=8, zorder=6)
    return found


def _outline() -> Any:
    """Return four electrodes, for which MNE draws the outline of a head."""
    import mne

    info = mne.create_info(["Fz", "T7", "T8", "Oz"], 100.0, "eeg")
    info.set_montage(mne.channels.make_dig_montage(places(info.ch_names), coord_frame="head"), verbose="error")
    return info
