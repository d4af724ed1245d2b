"""Figures of maps on the cortical surface.

Maps in one figure share a colour scale that is symmetric about zero. Vertices without a value are grey, not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import title_stand_in
from nbkit.neuro.signals.imaging.surfaces import HEMISPHERES, VERTICES, mesh, pool_vertices, spread_vertices, surface_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "RdBu_r"
_VIEWS = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))


def plot_brain(
    maps: Mapping[str, np.ndarray],
    unit: str,
    *,
    limit: float | None = None,
    surface: str | None = None,
    title: str = "",
    stand_in: str = "",
) -> Figure:
    """Draw maps below each other, each in four views, all with the same colour scale.

    Parameters
    ----------
    maps : mapping of str to ndarray of shape (vertices,)
        Values on both hemispheres of fsaverage3, 4 or 5; NaN for no value. Maps of different surfaces are all drawn on
        the finest of these, which contains the vertices of the others.
    unit : str
        Unit of the values, for the colour bar.
    limit : float, optional
        The scale goes from -limit to limit; by default the 99th percentile of all absolute values.
    surface : {"fsaverage3", "fsaverage4", "fsaverage5"}, optional
        Surface to draw on; coarser ones are faster.
    title : str
    stand_in : str
        Description of stand-in data, written in the figure.

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        If there are no maps, a map has no value at all, or its number of vertices fits no surface.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn.plotting import plot_surf

    prepared, surface, limit = _prepare(maps, limit, surface)
    n_left = len(next(iter(prepared.values()))) // 2
    rows = len(prepared)
    figure, panels = plt.subplots(
        rows, 4, figsize=(11, 0.9 + 1.9 * rows), subplot_kw={"projection": "3d"}, squeeze=False
    )
    figure.subplots_adjust(left=0.1, right=0.88, top=1 - 0.6 / (0.9 + 1.9 * rows), bottom=0.02, wspace=0, hspace=0)
    for row, (name, values) in enumerate(prepared.items()):
        for axes, (side, view) in zip(panels[row], _VIEWS, strict=True):
            own = values[:n_left] if side == "left" else values[n_left:]
            plot_surf(
                mesh(surface, "infl", side), own, hemi=side, view=view, cmap=COLOURS, vmin=-limit, vmax=limit,
                colorbar=False, axes=axes, bg_map=np.full(len(own), 0.5), engine="matplotlib",
            )  # fmt: skip
            axes.set_box_aspect(None, zoom=1.3)
            if row == 0:
                axes.set_title(f"{side}, {view}", fontsize=9, y=0.98)
        place = panels[row, 0].get_position()
        figure.text(0.015, place.y0 + place.height / 2, name, fontsize=11, rotation=90, va="center", ha="left")
    scale = figure.add_axes((0.91, 0.2, 0.016, 0.6))
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), COLOURS), cax=scale, extend="both")
    bar.set_label(unit)
    if title:
        figure.suptitle(title, fontsize=11, y=0.99)
    title_stand_in(figure, stand_in, below=True)
    return figure


def brain_view_html(values: np.ndarray, unit: str, *, limit: float | None = None, title: str = "") -> str:
    """Return an HTML page in which the map can be rotated with the mouse; it needs no network.

    Parameters
    ----------
    values : ndarray of shape (vertices,)
        Values on both hemispheres of fsaverage3, 4 or 5, which are drawn side by side; NaN is grey.
    unit : str
        Unit of the values, written in the title.
    limit : float, optional
        The scale goes from -limit to limit.
    """
    from nilearn.plotting import view_surf

    engine = {}
    if "engine" in signature(view_surf).parameters:  # only newer releases of nilearn have several engines
        engine["engine"] = "plotly" if find_spec("plotly") else "niivue"
    prepared, surface, limit = _prepare({title or "map": values}, limit, None)
    points, triangles = [], []
    for side, shift in zip(HEMISPHERES, (-1, 1), strict=True):
        own, faces = mesh(surface, "infl", side)
        own = own - [own[:, 0].max() if shift < 0 else own[:, 0].min(), 0, 0]  # side by side, without a gap
        triangles.append(faces + sum(map(len, points)))
        points.append(own + [3.0 * shift, 0, 0])
    view = view_surf(
        (np.concatenate(points), np.concatenate(triangles)), next(iter(prepared.values())), cmap=COLOURS, vmax=limit,
        vmin=-limit, symmetric_cmap=True, title=f"{title} ({unit})" if title else unit, title_fontsize=18,
        colorbar_fontsize=12, **engine,  # larger numbers are cut off beside the colour bar
    )  # fmt: skip
    return view.html


def _prepare(
    maps: Mapping[str, np.ndarray], limit: float | None, surface: str | None
) -> tuple[dict[str, np.ndarray], str, float]:
    if not maps:
        raise ValueError("There are no maps to draw; pass at least one.")
    flat = {name: np.asarray(values, float).ravel() for name, values in maps.items()}
    for name, values in flat.items():
        surface_of(len(values))
        if not np.isfinite(values).any():
            raise ValueError(f"The map {name!r} has no value at all ({len(values)} vertices, all NaN); leave it out.")
    finest = surface_of(max(map(len, flat.values())))
    surface = surface or finest
    drawn = {}
    for name, values in flat.items():
        fine = len(values) > 2 * VERTICES[surface]
        drawn[name] = pool_vertices(values, surface) if fine else spread_vertices(values, surface)
    if limit is None:
        sizes = np.abs(np.concatenate(list(drawn.values())))
        limit = float(np.nanpercentile(sizes, 99)) or 1.0
    if not limit > 0:
        raise ValueError(f"Got {limit=}; the colour scale goes from -limit to limit, so pass a number above 0.")
    return drawn, surface, float(limit)
