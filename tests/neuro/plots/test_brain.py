"""Brain maps: one scale for all, grey where there is nothing, coarse and fine together."""

import numpy as np
import pytest

from nbkit.neuro.plots.brain import brain_view_html, plot_brain
from nbkit.neuro.signals.imaging.surfaces import sphere

FRONT = sphere("fsaverage3")[:, 1] / 100


def test_all_maps_share_one_symmetric_scale():
    maps = {"teacher": 2 * FRONT, "student": FRONT, "difference": FRONT}
    figure = plot_brain(maps, "z", stand_in="synthetic")
    assert len(figure.axes) == 13  # three maps from four sides, and the bar
    low, high = figure.axes[-1].get_ylim()
    assert low == -high and high == pytest.approx(np.percentile(np.abs(np.r_[2 * FRONT, FRONT, FRONT]), 99))
    assert figure.axes[-1].get_ylabel() == "z"
    said = [text.get_text() for text in figure.texts]
    assert {"teacher", "student", "difference", "synthetic"} <= set(said)
    colours = [axes.collections[0].get_facecolors() for axes in figure.axes[:12]]
    assert not np.allclose(colours[0], colours[4]) and np.allclose(colours[4], colours[8])


def test_a_coarse_map_is_drawn_on_the_fine_one_and_back():
    from nbkit.neuro.plots.brain import _prepare

    fine = sphere("fsaverage4")[:, 1]
    drawn, surface, _ = _prepare({"a": fine, "b": sphere("fsaverage3")[:, 1]}, None, None)
    assert surface == "fsaverage4" and np.corrcoef(drawn["a"], drawn["b"])[0, 1] > 0.99
    drawn, surface, _ = _prepare({"a": fine}, 1.0, "fsaverage3")
    assert surface == "fsaverage3" and np.array_equal(drawn["a"], sphere("fsaverage3")[:, 1])


def test_the_view_is_one_page_that_needs_no_network():
    values = FRONT.copy()
    values[:5] = np.nan
    page = brain_view_html(values, "r", title="Teacher")
    assert "<html" in page.lower() and len(page) > 100_000
    assert 'src="http' not in page


def test_maps_that_are_none_are_refused():
    with pytest.raises(ValueError, match="There are no maps"):
        plot_brain({}, "z")
    with pytest.raises(ValueError, match="'a' has no value at all"):
        plot_brain({"a": np.full(1284, np.nan)}, "z")
    with pytest.raises(ValueError, match="map of 1000 vertices is no complete fsaverage surface"):
        plot_brain({"a": np.zeros(1000)}, "z")
    with pytest.raises(ValueError, match="limit=-1"):
        plot_brain({"a": FRONT}, "z", limit=-1)
