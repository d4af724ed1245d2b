"""Figures of scores and moments: on the cortex, or by region if the places of the outputs are not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nbkit.neuro.plots.brain import plot_brain, plot_score_maps
from nbkit.neuro.plots.regions import plot_values_by_region
from nbkit.neuro.tribe.gather import Regions
from nbkit.neuro.tribe.scoring.frame import STUDENT
from nbkit.neuro.tribe.scoring.report import score_maps
from nbkit.neuro.tribe.scoring.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNITS = {"r": "r over held-out time (1)", "r / ceiling": "r / ceiling (1)"}


def draw_scores(
    table: Table, regions: Regions, model: str = STUDENT, surface: str | None = None, stand_in: str = ""
) -> Figure:
    """Draw a model's r and its r over the ceiling: on the shaded cortex, by hemisphere and view, or by region.

    Parameters
    ----------
    table : Table
    regions : Regions
    model : str
    surface : str, optional
        Surface to draw on; coarser ones are faster.
    stand_in : str
        Description of stand-in data.
    """
    if model not in table.rows:
        raise ValueError(f"There is no model {model!r}; the table has {', '.join(table.rows)}.")
    found = score_maps(table, regions, model)
    title = f"{model}: r over held-out time"
    if found is not None:
        maps, place = found
        return plot_score_maps(
            maps, _UNITS, place, regions.outlined()[0], surface=surface, title=title, stand_in=stand_in
        )
    values = {"r": table.rows[model].r}
    if table.ceiling_r is not None:
        values["r / ceiling"] = table.rows[model].r / np.where(table.ceiling_r > 0.05, table.ceiling_r, np.nan)
    values = {name: _by_region(one, regions) for name, one in values.items()}
    return plot_values_by_region(values, _UNITS, regions.names, title=title, stand_in=stand_in)


def draw_moment(
    maps: Mapping[str, np.ndarray], regions: Regions, surface: str | None = None, stand_in: str = ""
) -> Figure:
    """Draw the maps of one moment (see `moment_maps`): on the cortex, or by region."""
    if regions.on_surface is not None:
        return plot_brain(maps, "z", surface=surface, stand_in=stand_in)
    maps = {name: _by_region(one, regions) for name, one in maps.items()}
    return plot_values_by_region(maps, dict.fromkeys(maps, "z"), regions.names, stand_in=stand_in)


def _by_region(values: np.ndarray, regions: Regions) -> np.ndarray:
    """Return the mean of each region's values."""
    means = regions.mean_r(values)
    return np.array([means[name] for name in regions.names])
