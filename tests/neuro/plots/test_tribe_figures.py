"""Figures of the brain-encoding model: units on axes, baselines beside scores, what stands in said."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from nbkit.neuro.plots.curves import plot_monitors
from nbkit.neuro.plots.regions import plot_r_by_region, plot_reliance, plot_response, plot_values_by_region
from nbkit.neuro.plots.stimulus import plot_features, plot_series

matplotlib.use("Agg")
DRAWS = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def labels(axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def test_monitors_stand_beside_their_lines():
    history = [{"step": i, "train_loss": 1 / (i + 1), "val_cos": i / 10 if i % 2 else None} for i in range(10)]
    figure = plot_monitors(history, {"train_loss": "all"}, [("Cosine (1)", {"val_cos": "masked"}, {"goal": 0.6})],
                           stand_in="made up")  # fmt: skip
    loss, cosine = figure.axes
    assert loss.get_ylabel() == "Loss (1)" and cosine.get_xlabel() == "Step"
    assert labels(cosine) == ["masked", "goal (0.6)"] and len(cosine.lines[0].get_xdata()) == 5
    assert figure.get_suptitle() == "made up"


def test_a_metric_that_was_never_logged_is_left_out():
    figure = plot_monitors([{"step": 1, "train_loss": 2.0}], {"train_loss": "all", "train_x": "x"}, [])
    assert labels(figure.axes[0]) == ["all"]


def test_regions_show_every_model_with_its_interval_and_the_ceiling():
    scores = {
        "student": {"Vis": (0.4, 0.3, 0.5), "Default": (np.nan,) * 3},
        "ridge": {"Vis": (0.3, 0.2, 0.4), "Default": (0.1, 0.0, 0.2)},
    }
    (axes,) = plot_r_by_region(scores, ceiling={"Vis": 0.8, "Default": 0.6}, over="9 people").axes
    assert set(labels(axes)) == {"student", "ridge", "ceiling", "no relation"}
    assert "9 people" in axes.get_ylabel()
    assert axes.containers[0][0].get_ydata()[0] == 0.4 and axes.containers[1].has_yerr
    panels = plot_values_by_region({"r": np.array([0.1, 0.2])}, {"r": "r (1)"}, ("LATL", "LIFG")).axes
    assert panels[0].get_ylabel() == "r (1)" and [t.get_text() for t in panels[0].get_xticklabels()] == ["LATL", "LIFG"]


def test_reliance_is_averaged_by_region():
    reliance = np.array([[0.8, 0.6, 0.1], [0.1, 0.2, 0.1], [0.1, 0.2, 0.8]])
    region = np.array([0, 0, 1])
    gates = DRAWS.random((20, 3))
    left, right = plot_reliance(reliance, region, ("a", "b"), ("text", "audio", "video"), gates, 1.5).axes
    assert [bar.get_height() for bar in left.containers[0]] == pytest.approx([0.7, 0.1])
    assert right.get_xlabel() == "Time in the stimulus (s)" and right.lines[0].get_xdata()[-1] == 28.5


def test_the_response_has_its_first_form_and_the_planted_one():
    kernels, first = DRAWS.random((5, 8)), DRAWS.random(8)
    planted = (np.linspace(0, 12, 20), DRAWS.random(20))
    left, right = plot_response(kernels, first, 1.49, planted=planted, change=DRAWS.random(10)).axes
    assert len(labels(left)) == 3 and "planted" in labels(right) and left.get_xlabel() == "Lag (s)"
    assert len(plot_response(kernels, first, 1.49).axes) == 1


def test_stimulus_and_series_are_in_seconds():
    figure = plot_features({"text": DRAWS.normal(size=(30, 9)), "audio": DRAWS.normal(size=(30, 9))}, 0.5, title="x")
    assert figure.axes[1].get_xlabel() == "Time (s)" and figure.axes[0].get_ylabel().startswith("text")
    (axes,) = plot_series(DRAWS.normal(size=(50, 6)), 1.5, np.array([0, 0, 1, 1, 2, 2]), ("a", "b", "c")).axes
    assert axes.get_xlabel() == "Time (s)" and len(axes.lines) == 4  # three regions and the scale
