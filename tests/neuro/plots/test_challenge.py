"""The challenge's figures: units, the constant, and no score without it."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from nbkit.neuro.challenge.metrics import nrmse
from nbkit.neuro.plots.challenge import (
    plot_agreement,
    plot_finetuning,
    plot_predictions,
    plot_scores,
    plot_submission,
)

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("people", [3, 30])
def test_predictions_stand_against_the_truth_and_the_mean(people):
    draws = np.random.default_rng(0)
    target = draws.normal(1.6, 0.4, 90)
    prediction = 0.5 * target + draws.normal(0.8, 0.2, 90)
    figure = plot_predictions(target, prediction, [str(i % people) for i in range(90)], train_mean=1.5)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Response time (s)" and axes.get_ylabel() == "Predicted response time (s)"
    assert f"NRMSE {nrmse(target, prediction):.3f}" in axes.get_title(loc="left")
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert any(text.startswith("training mean (NRMSE") for text in said)
    assert len(said) == 2 + (3 if people == 3 else 1)
    assert sum(len(points.get_offsets()) for points in axes.collections) == 90


@pytest.mark.parametrize("challenge", [1, 2])
def test_scores_stand_beside_the_constant_and_the_published(challenge):
    figure = plot_scores({"ours": 0.9, "ridge": 1.1}, challenge, intervals={"ours": (0.8, 1.0)}, note="stand-in")
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:2] == ["ours", "ridge"] and "median, published" in names and "winner (MBZUAI), published" in names
    assert any(np.allclose(line.get_xdata(), 1.0) and line.get_linestyle() == "--" for line in axes.lines)
    assert "NRMSE" in axes.get_xlabel() and figure.get_suptitle() == "stand-in"
    assert ("best challenge 1 (KUL), published" in names) == (challenge == 1)


def test_finetuning_is_drawn_with_its_twin_and_the_constant():
    history = [
        {"step": 10, "train_loss": 1.0, "train_loss_scratch": 1.1},
        {"step": 20, "train_loss": 0.8, "train_loss_scratch": 1.0, "val_nrmse": 0.9, "val_nrmse_scratch": 0.95},
    ]
    left, right = plot_finetuning(history, stand_in="made up").axes
    assert [line.get_label() for line in right.lines] == ["pretrained", "from scratch", "constant (1.0)"]
    assert [list(line.get_ydata()) for line in left.lines] == [[1.0, 0.8], [1.1, 1.0]]
    assert "NRMSE" in right.get_ylabel() and left.get_xlabel() == "Step"


def test_a_third_network_is_drawn_where_there_is_one():
    history = [{"step": 10, "train_loss_signal_jepa": 1.0, "val_nrmse_signal_jepa": 0.9}]
    assert "SignalJEPA" in [line.get_label() for line in plot_finetuning(history).axes[1].lines]


def test_a_zip_stands_against_its_checkpoints():
    own = {1: np.linspace(1, 2, 9), 2: np.linspace(-1, 1, 7)}
    left, right = plot_agreement(own, {1: own[1] + 0.001, 2: own[2]}).axes
    assert "1.0e-03 apart" in left.get_title(loc="left") and "0.0e+00 apart" in right.get_title(loc="left")
    assert len(right.collections[0].get_offsets()) == 7 and "response time (s)" in left.get_xlabel()


def test_a_zips_scores_stand_beside_the_constant_and_the_published():
    figure = plot_submission((0.95, 1.01, 0.992), {2: (0.9, 7.0)}, note="stand-in")
    axes = figure.axes[0]
    labels = [line.get_label() for line in axes.lines]
    assert {"this zip", "median", "winner (MBZUAI)", "constant: the scored targets' mean"} <= set(labels)
    assert len(labels) == len({label for label in labels if not label.startswith("_")}) + sum(
        label.startswith("_") for label in labels
    )
    assert axes.get_xlim()[1] < 1.3 and figure.get_suptitle() == "stand-in" and "NRMSE" in axes.get_xlabel()
