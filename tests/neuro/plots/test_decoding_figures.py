"""Decoding's figures: chance and band powers are always there, published scores stand apart."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest

from nbkit.neuro.decoding.models.published import CHANCE, PUBLISHED, WHAT
from nbkit.neuro.plots.decoding import (
    plot_comparison,
    plot_embeddings,
    plot_path,
    plot_trainable,
    plot_trainings,
    words_for,
)

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def record(model, mode, fold, score, history=()):
    return {
        "model": model, "mode": mode, "fold": fold, "kind": "classification", "history": list(history),
        "scores": {"balanced_accuracy": score, "balanced_accuracy_trivial": 0.5},
        "checkpoint": {"weights": 1000, "best_step": 5} if history else None,
    }  # fmt: skip


HISTORY = [
    {
        "step": s,
        "train_loss": 1 / (s + 1),
        "grad_norm": np.inf if s == 3 else 2.0,
        **({"val_loss": 0.5} if s == 5 else {}),
    }
    for s in range(1, 8)
]
RECORDS = [
    *(record("band_power", "baseline", f, 0.8) for f in (1, 2)),
    *(record("labram", "frozen", f, 0.4 + 0.1 * f) for f in (1, 2)),
    *(record("labram", "lora", f, 0.6 + 0.1 * f, HISTORY) for f in (1, 2)),
]


def row(model, mode, score, said="", trained=0):
    return {
        "task": "rest", "model": model, "mode": mode, "score_name": "balanced_accuracy", "score": score, "trivial": 0.5,
        "low": score - 0.1, "high": score + 0.1, "said": said, "groups": 12, "trained": trained,
    }  # fmt: skip


TABLE = pd.DataFrame([
    row("band_power", "baseline", 0.8), row("labram", "lora", 0.75, "not distinguishable from band powers", 1000),
    row("labram", "frozen", 0.55, "below band powers"),
])  # fmt: skip


def verticals(axes):
    return {round(float(line.get_xdata()[0]), 3) for line in axes.lines if line.get_linestyle() in ("--", "-")
            and len(set(line.get_xdata())) == 1 and list(line.get_ydata()) == [0, 1]}  # fmt: skip


def test_scores_stand_beside_chance_and_band_powers_with_intervals_over_groups():
    figure = plot_comparison(TABLE, stand_in="synthetic")
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["band_power, baseline", "labram, lora", "labram, frozen"]
    assert verticals(axes) == {0.5, 0.8} and "over 12 or more groups" in axes.get_xlabel()
    assert [text.get_text() for text in axes.texts] == ["0.80", "0.75", "0.55"]
    bars = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2.0]
    assert bars[1] == pytest.approx([0.65, 0.85])
    hollow = [line.get_markerfacecolor() == "none" for line in axes.lines if line.get_marker() == "D"]
    assert hollow == [False, True, False] and figure._suptitle.get_text() == "synthetic"


def test_several_data_sets_are_named():
    both = pd.concat([TABLE, TABLE.assign(task="sleep")])
    axes = plot_comparison(both).axes[0]
    assert axes.get_yticklabels()[-1].get_text() == "sleep: labram, frozen" and verticals(axes) == {0.5}


def test_published_scores_have_a_panel_of_their_own_that_says_so():
    figure = plot_comparison(TABLE, published=PUBLISHED, published_is=WHAT, published_chance=CHANCE)
    axes = figure.axes[1]
    assert "Published elsewhere, other data: not comparable" in axes.get_title(loc="left") and WHAT in axes.get_title(
        "left"
    )
    assert verticals(axes) == {CHANCE} and len(axes.get_yticklabels()) == len(PUBLISHED)


def test_trained_weights_are_on_a_log_axis_beside_chance():
    axes = plot_trainable(TABLE).axes[0]
    assert axes.get_xscale() == "log" and "Number of trained weights" in axes.get_xlabel()
    levels = {float(line.get_ydata()[0]) for line in axes.lines if list(line.get_xdata()) == [0, 1]}
    assert levels == {0.5, 0.8}


def test_a_figure_says_what_its_data_and_weights_are():
    records = [{"data": "real", "info": {"weights": "random, seed 0"}}, {"data": "real", "info": {}}]
    assert words_for(records) == "real; random backbones" and words_for(records[1:]) == "real"


def test_trainings_leave_out_what_is_not_finite_and_ring_the_step_that_was_kept():
    left, middle, right = plot_trainings(RECORDS).axes
    assert all(np.isfinite(line.get_ydata()).all() for line in right.lines)
    assert [len(line.get_xdata()) for line in right.lines] == [6, 6] and "nats" in left.get_ylabel()
    rings = [line for line in middle.lines if line.get_markerfacecolor() == "none"]
    assert [float(ring.get_xdata()[0]) for ring in rings] == [5.0, 5.0] and right.get_yscale() == "log"


def test_embeddings_are_drawn_along_their_largest_components():
    values = np.random.default_rng(0).normal(size=(30, 8)) * [10, 5, 1, 1, 1, 1, 1, 1]
    figure = plot_embeddings({"labram": values, "cbramod": values}, np.arange(30) % 2, ("rest", "movement"))
    assert [axes.get_title() for axes in figure.axes] == ["labram", "cbramod"]
    drawn = np.concatenate([points.get_offsets()[:, 0] for points in figure.axes[0].collections])
    assert drawn.std() == pytest.approx(values[:, 0].std(), rel=0.1)
    assert "nothing" not in plot_embeddings({}, np.zeros(0), ()).axes[0].get_title()


def test_a_path_has_seconds_on_its_axes():
    left, right, bar = plot_path(
        np.arange(2.0, 32.0), np.random.default_rng(0).normal(size=(30, 8)), title="labram"
    ).axes
    assert left.get_xlabel() == "Time (s)" == right.get_ylabel() and "Cosine" in bar.get_ylabel()
    assert tuple(right.images[0].get_extent()[:2]) == (2.0, 31.0)


def test_embeddings_of_more_classes_than_colours_have_a_mark_of_their_own_each():
    target = np.arange(60) % 10
    figure = plot_embeddings({"biot": np.random.default_rng(0).normal(size=(60, 5))}, target, list("abcdefghij"))
    drawn = [(tuple(one.get_facecolor()[0]), len(one.get_paths()[0].vertices)) for one in figure.axes[0].collections]
    assert len(set(drawn)) == len(drawn) == 10
