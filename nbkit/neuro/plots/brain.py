"""Figures of maps on the cortical surface.

Maps in one figure share a colour scale that is symmetric about zero. Vertices without a value are grey, not zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import SERIES, title_stand_in
from nbkit.neuro.signals.imaging.surfaces import (
    HEMISPHERES,
    VERTICES,
    curvature,
    mesh,
    nested_vertices,
    pool_vertices,
    spread_vertices,
    surface_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "RdBu_r"
_SCORES = "inferno"
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
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn.plotting import plot_surf

    prepared, surface, limit = _prepare(maps, limit, surface)
    n_left = len(next(iter(prepared.values()))) // 2
    figure, panels = _panels(list(prepared))
    for row, values in enumerate(prepared.values()):
        for axes, (side, view) in zip(panels[row], _VIEWS, strict=True):
            own = values[:n_left] if side == "left" else values[n_left:]
            plot_surf(
                mesh(surface, "infl", side), own, hemi=side, view=view, cmap=COLOURS, vmin=-limit, vmax=limit,
                colorbar=False, axes=axes, bg_map=np.full(len(own), 0.5), engine="matplotlib",
            )  # fmt: skip
            axes.set_box_aspect(None, zoom=1.3)
    scale = figure.add_axes((0.91, 0.2, 0.016, 0.6))
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), COLOURS), cax=scale, extend="both")
    bar.set_label(unit)
    if title:
        figure.suptitle(title, fontsize=11, y=0.99)
    title_stand_in(figure, stand_in, below=True)
    return figure


def plot_score_maps(
    maps: Mapping[str, np.ndarray],
    units: Mapping[str, str],
    region: np.ndarray,
    regions: Sequence[str],
    *,
    surface: str | None = None,
    title: str = "",
    stand_in: str = "",
) -> Figure:
    """Draw maps of scores on the shaded cortex, each with a colour scale of its own that begins at zero.

    Parameters
    ----------
    maps : mapping of str to ndarray of shape (vertices,)
        Scores on both hemispheres of fsaverage3, 4 or 5. Where a value is NaN or not above zero, the folds of the
        cortex are seen: sulci are dark.
    units : mapping of str to str
        Label of each map's colour bar.
    region : int array of shape (vertices,)
        Number of each vertex's region; below 0 for none. Regions are outlined and named.
    regions : sequence of str
    surface : {"fsaverage3", "fsaverage4", "fsaverage5"}, optional
        Surface to draw on; coarser ones are faster.
    title : str
    stand_in : str
        Description of stand-in data, written in the figure.

    Returns
    -------
    figure : matplotlib Figure
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D
    from nilearn.plotting import plot_surf, plot_surf_contours

    prepared, surface, _ = _prepare(maps, 1.0, surface)
    labels = np.asarray(region)
    labels = (
        labels[nested_vertices(surface_of(len(labels)), surface)] if len(labels) > 2 * VERTICES[surface] else labels
    )
    n_left = len(labels) // 2
    shade = np.where(curvature(surface) > 0, 0.65, 0.35)
    figure, panels = _panels(list(prepared))
    seen = sorted(set(labels[labels >= 0].tolist()))
    colours = {number: SERIES[place % len(SERIES)] for place, number in enumerate(seen)}
    for row, (name, values) in enumerate(prepared.items()):
        most = float(np.nanpercentile(np.where(values > 0, values, np.nan), 99)) if (values > 0).any() else 1.0
        for axes, (side, view) in zip(panels[row], _VIEWS, strict=True):
            half = slice(None, n_left) if side == "left" else slice(n_left, None)
            own = np.where(values[half] > 0, values[half], np.nan)
            place = mesh(surface, "infl", side)
            plot_surf(
                place, own, hemi=side, view=view, cmap=_SCORES, vmin=0, vmax=most, colorbar=False, axes=axes,
                bg_map=shade[half], bg_on_data=False, engine="matplotlib",
            )  # fmt: skip
            here = [number for number in seen if (labels[half] == number).any()]
            if here:
                plot_surf_contours(
                    place, np.where(labels[half] >= 0, labels[half] + 1, 0), hemi=side, axes=axes, figure=figure,
                    levels=[number + 1 for number in here], colors=[colours[number] for number in here],
                )  # fmt: skip
            axes.set_box_aspect(None, zoom=1.3)
        box = panels[row, -1].get_position()
        scale = figure.add_axes((0.9, box.y0 + 0.12 * box.height, 0.014, 0.76 * box.height))
        bar = figure.colorbar(ScalarMappable(Normalize(0, most), _SCORES), cax=scale, extend="max")
        bar.set_label(units[name], fontsize=9)
    handles = [Line2D([], [], color=colours[number], linewidth=2.5, label=regions[number]) for number in seen]
    figure.legend(handles=handles, loc="lower center", ncols=min(6, max(1, len(handles))), frameon=False, fontsize=9,
                  bbox_to_anchor=(0.5, 0.05 if stand_in not in ("", "real") else 0.0))  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=11, y=0.99)
    title_stand_in(figure, stand_in, below=True)
    return figure


def _panels(names: Sequence[str]) -> tuple[Figure, np.ndarray]:
    """Return a figure with one row of four views for each name, and its axes."""
    import matplotlib.pyplot as plt

    rows = len(names)
    height = 1.3 + 1.9 * rows
    figure, panels = plt.subplots(rows, 4, figsize=(11, height), subplot_kw={"projection": "3d"}, squeeze=False)
    figure.subplots_adjust(left=0.1, right=0.88, top=1 - 0.6 / height, bottom=0.5 / height, wspace=0, hspace=0)
    for axes, (side, view) in zip(panels[0], _VIEWS, strict=True):
        axes.set_title(f"{side}, {view}", fontsize=9, y=0.98)
    for row, name in enumerate(names):
        place = panels[row, 0].get_position()
        figure.text(0.015, place.y0 + place.height / 2, name, fontsize=11, rotation=90, va="center", ha="left")
    return figure, panels


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
