"""Figures of scaling: runs beside their fit, the prediction apart from them, units on every axis."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
import pytest

from nbkit.neuro.plots.scaling import plot_few_shot, plot_ladder, plot_scaling, plot_score_against_compute, plot_ways

matplotlib.use("Agg")
SIZES = np.repeat([5.0, 10.0, 20.0], 2)


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def said(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_runs_fit_and_prediction_stand_together():
    at = np.array([5.0, 20.0, 40.0])
    loss = at**-0.5
    figure = plot_scaling(
        SIZES, SIZES**-0.5, verdict="more data helps: it falls", curve=(at, loss, 0.9 * loss, 1.1 * loss),
        prediction=(40.0, 0.158, 0.15, 0.17), baseline=0.6, law="n^-0.5", stand_in="made up",
    )  # fmt: skip
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "Recordings (log scale)" and axes.get_ylabel() == "Loss (bit/spike, log scale)"
    assert axes.get_title(loc="left") == "more data helps: it falls" and figure.get_suptitle() == "made up"
    assert said(axes)[:4] == ["interval of the fit", "n^-0.5", "runs, one per seed", "mean rate (0.6)"]
    assert said(axes)[4] == "expected at 40: 0.158 (0.15 to 0.17)"
    points = next(line for line in axes.lines if line.get_label() == "runs, one per seed")
    assert len(points.get_xdata()) == 6
    assert [text.get_text() for text in axes.get_xticklabels()] == ["5", "10", "20", "40"]
    figure.canvas.draw()


def test_losses_that_hardly_differ_have_ticks_that_do():
    figure = plot_scaling(SIZES, 2.31 + 0.01 * SIZES**-0.5, verdict="flat")
    figure.canvas.draw()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels() if text.get_text()]
    assert len(labels) == len(set(labels)) >= 3


def test_without_a_fit_only_the_runs_are_drawn():
    axes = plot_scaling(SIZES[:4], SIZES[:4] ** -0.5, verdict="inconclusive: 2 sizes").axes[0]
    assert said(axes) == ["runs, one per seed"] and axes.get_title(loc="left").startswith("inconclusive")


@dataclass
class One:
    name: str
    compute: float
    score: float
    error: float = 0.01
    on_front: bool = True


def test_the_sweet_spot_is_marked_on_the_front():
    given = [One("small", 1, 0.1), One("wide", 3, 0.05, on_front=False), One("large", 9, 0.2)]
    axes = plot_score_against_compute(given, "small", reason="cheap", baseline=0.0).axes[0]
    front = next(line for line in axes.lines if line.get_label() == "nothing cheaper scores higher")
    assert list(front.get_xdata()) == [1, 9]
    ring = next(line for line in axes.lines if line.get_label() == "sweet spot")
    assert (ring.get_xdata(), ring.get_ydata()) == ([1], [0.1])
    assert {text.get_text() for text in axes.texts} == {"small", "wide", "large"}
    assert "(PFLOP, log scale)" in axes.get_xlabel() and axes.get_ylabel() == "Score (bit/spike)"


def test_before_the_first_run_there_is_an_empty_figure_that_says_so():
    figure = plot_score_against_compute((), "none yet", reason="no network of this experiment is done")
    figure.canvas.draw()
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "no network of this experiment is done" and not axes.collections


def test_few_shot_curves_show_every_seed_and_the_levels():
    curves = {
        "pretrained": ([0, 1, 5], np.array([[0.1, 0.4, 0.5], [0.2, 0.3, 0.6]])),
        "scratch": ([1, 5], [[0.0, 0.2]]),
    }
    axes = plot_few_shot(curves, levels={"chance": 0.0}, score_is="R2").axes[0]
    assert said(axes) == ["pretrained (mean of 2)", "scratch (mean of 1)", "chance (0)"]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["pretrained (mean of 2)"].get_ydata()) == pytest.approx([0.15, 0.35, 0.55])
    at = list(lines["scratch (mean of 1)"].get_xdata())
    assert at == pytest.approx([1.15, 2.15]), "1 and 5 stand right of 0, and the methods a little apart"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "5"] and axes.get_ylabel() == "R2"


def test_before_the_first_case_the_other_figures_can_be_drawn():
    for figure in (plot_few_shot({}), plot_ways({}), plot_scaling([], [], verdict="inconclusive: no run")):
        figure.canvas.draw()


def test_ways_show_every_case_and_their_mean():
    groups = {"held out": {"untouched": [0.0, 0.2], "scratch": [0.4]}, "other modality": {"untouched": [-0.1]}}
    axes = plot_ways(groups, title="no label").axes[0]
    assert said(axes) == ["untouched", "scratch", "mean rate (0)"] and "(bit/spike)" in axes.get_ylabel()
    assert sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o") == 4
    mean = next(line for line in axes.lines if line.get_label() == "untouched")
    assert list(mean.get_ydata()) == pytest.approx([0.1, 0.1])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["held out", "other modality"]


def test_the_ladder_shows_hours_sessions_price_and_gate():
    row = {"recordings": 100, "title": "many", "hours": 12.0, "planned_hours": (40, 50), "sessions": 2}
    unmeasured = {"dollars": None, "gate": "not measured", "hours": None, "sessions": None}
    gates = [{"dollars": 48.0, "gate": "failed"}, {"dollars": None, "gate": "passed"}, unmeasured]
    figure = plot_ladder([row | gate for gate in gates])
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == [
        "12 h, 2 sessions, 48 paid",
        "12 h, 2 sessions",
        "40 to 50 h planned",
    ]
    assert [line.get_fillstyle() for line in axes.lines if line.get_marker() == "o"] == ["full", "full", "none"]
    assert [text.get_text() for text in axes.get_yticklabels()][0] == "100+ recordings\nmany"
    assert "hours" in axes.get_xlabel()
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["gate: passed", "gate: failed", "gate: not measured", "the plan's own estimate"]
