"""Figures: what is drawn is the data, axes carry units, and scores stand beside their baseline."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from nbkit.neuro.plots.bands import plot_bands
from nbkit.neuro.plots.curves import plot_curves
from nbkit.neuro.plots.rollout import plot_rollout
from nbkit.neuro.plots.windows import plot_window

NAMES = ("delta", "theta", "alpha")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def levels():
    return np.cumsum(20 * np.random.default_rng(0).normal(size=(3, 4, 100)), axis=0)


def clipped_text(figure):
    """Return a title, label or legend that leaves the canvas, or None."""
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    texts = list(figure.texts) + [figure._suptitle] + [t for legend in figure.legends for t in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes._left_title, axes._right_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
    for text in texts:
        if text is not None and text.get_text().strip():
            box = text.get_window_extent(figure.canvas.get_renderer())
            if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
                return text.get_text()
    return None


def test_a_clipped_text_is_found():
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.set_title("far too long a title for a figure of two inches")
    assert clipped_text(figure)


def test_rollout_figure(levels):
    rollout, conditioned = 0.1 * levels, 0.9 * levels
    figure = plot_rollout(rollout, NAMES, 100.0, truth=levels, conditioned=conditioned, channel=2, ch_name="Cz")
    assert len(figure.axes) == 3
    lines = figure.axes[1].get_lines()
    np.testing.assert_allclose(lines[0].get_ydata(), levels[1, 2])
    np.testing.assert_allclose(lines[1].get_ydata(), rollout[1, 2])
    np.testing.assert_allclose(lines[2].get_ydata(), conditioned[1, 2])
    assert lines[0].get_xdata()[-1] == pytest.approx(0.99)
    assert all(axes.get_ylabel() == "µV" for axes in figure.axes) and "(s)" in figure.axes[-1].get_xlabel()
    title = figure.get_suptitle()
    assert "20.00 dB" in title and "cumulative MSE" in title and "(zero: 0.00)" in title and "keeping it" in title
    assert f"{((rollout[1] - levels[1]) ** 2).mean():.3g}" in figure.axes[1].get_title(loc="right")
    assert clipped_text(figure) is None


def test_rollout_figure_without_truth_scores_nothing(levels):
    figure = plot_rollout(levels, NAMES, 100.0)
    assert "MSE" not in figure.get_suptitle() and not figure.axes[0].get_title(loc="right")
    with pytest.raises(ValueError, match="must be the same"):
        plot_rollout(levels, NAMES, 100.0, truth=levels[:2])


def test_window_figure(levels):
    names = ["Fz", "Cz", "Pz", "Oz"]
    figure = plot_window(levels[-1], 100.0, names, start_s=30.0, title="run 4")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert "(s)" in axes.get_xlabel() and any("µV" in text.get_text() for text in axes.texts)
    assert axes.get_lines()[0].get_xdata()[0] == 30.0
    np.testing.assert_allclose(np.diff(axes.get_lines()[1].get_ydata()), np.diff(levels[-1, 1]))
    assert clipped_text(figure) is None


def test_window_figure_of_many_channels_shows_some_and_says_so():
    figure = plot_window(np.random.default_rng(0).normal(size=(64, 50)), 100.0, [f"E{i}" for i in range(64)])
    assert "20 of 64 channels" in figure.axes[0].get_title()
    with pytest.raises(ValueError, match="No channel Cz"):
        plot_window(np.zeros((1, 50)), 100.0, ["Fz"], picks=["Cz"])


def test_bands_figure(levels):
    figure = plot_bands(levels, 100.0, NAMES, bands=[(0.5, 4), (4, 8), (8, 13)], channel=1, ch_name="Cz")
    np.testing.assert_allclose(figure.axes[0].get_lines()[1].get_ydata(), levels[0, 1])
    assert "δ + θ + α   0.5 to 13 Hz" in figure.axes[2].get_title(loc="left")
    assert all(axes.get_ylabel() == "µV" for axes in figure.axes) and clipped_text(figure) is None


def test_curves_figure_draws_the_baseline():
    history = [{"step": s, "train_loss": 1 / (s + 1)} for s in range(50)]
    history += [{"step": s, "val_mse": 120.0 - s, "val_mse_persistence": 140.0} for s in (10, 30, 49)]
    figure = plot_curves(history, sessions=[20])
    right = figure.axes[1]
    assert "µV²" in right.get_ylabel() and right.get_xlabel() == "Step"
    assert any("persistence (140 µV²)" in text.get_text() for text in right.get_legend().get_texts())
    assert right.get_lines()[0].get_xdata().tolist() == [10, 30, 49]
    assert clipped_text(figure) is None


def test_curves_of_a_run_that_has_not_begun():
    assert clipped_text(plot_curves([])) is None
