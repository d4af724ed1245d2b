"""Figures of scores: on the cortex where places are known, by region where they are not."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from nbkit.neuro.tribe.gather import planted_regions, regions_of
from nbkit.neuro.tribe.scoring.drawing import draw_moment, draw_scores
from nbkit.neuro.tribe.scoring.report import score_maps
from nbkit.neuro.tribe.scoring.table import ModelRow, Table
from nbkit.neuro.tribe.scoring.uncertainty import interval_over

matplotlib.use("Agg")


def table_of(r, ceiling):
    some = interval_over([0.1, 0.2, 0.3])
    row = ModelRow("student", some, {}, some, 0.01, 0.5, 1.0, r, r[:1], some)
    return Table({"student": row}, "student", None, ceiling)


def test_maps_have_r_and_its_share_with_regions_outlined():
    regions = planted_regions(400)
    r = np.linspace(-0.1, 0.6, 400)
    table = table_of(r, np.where(np.arange(400) < 5, 0.01, 0.8))
    maps, place = score_maps(table, regions)
    assert maps["r"].shape == place.shape == (5124,) and set(np.unique(place)) == {0, 1, 2}
    known = np.isfinite(maps["r / ceiling"])
    assert 0.9 < known.mean() < 1  # a ceiling near zero has no share
    np.testing.assert_allclose(maps["r / ceiling"][known], maps["r"][known] / 0.8)
    figure = draw_scores(table, regions, surface="fsaverage3")
    assert len(figure.axes) == 2 * 4 + 2 and figure.legends[0].get_texts()[0].get_text() == "text"
    with pytest.raises(ValueError, match="There is no model 'oracle'; the table has student"):
        draw_scores(table, regions, "oracle")


def test_regions_without_a_place_are_drawn_by_name():
    regions = regions_of("store", 4, None, ("left", "left", "right", "right"))
    assert regions.names == ("left", "right") and regions.on_surface is None
    figure = draw_scores(table_of(np.array([0.1, 0.3, 0.5, 0.5]), np.full(4, 0.5)), regions)
    heights = [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    assert heights[0] == pytest.approx([0.2, 0.5]) and heights[1] == pytest.approx([0.4, 1.0])
    assert len(draw_moment({"fMRI": np.ones(4), "student": np.zeros(4)}, regions).axes) == 2
