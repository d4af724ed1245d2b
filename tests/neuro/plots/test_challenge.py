"""The challenge's figures: units, the constant, and no score without it."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from nbkit.neuro.plots.challenge import plot_finetuning, plot_predictions, plot_scores
from nbkit.neuro.signals.challenge import nrmse

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
