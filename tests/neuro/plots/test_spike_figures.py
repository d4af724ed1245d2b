"""Figures of spikes show what they are given, with units."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from nbkit.neuro.plots.spikes import plot_bits_per_spike, plot_decoders, plot_spike_training, plot_spike_window


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_window_shows_counts_and_behaviour():
    counts = np.arange(12).reshape(4, 3)
    figure = plot_spike_window(
        counts, 0.02, np.ones((4, 2)), "cm/s", task="velocity", recording="r", stand_in="made up"
    )
    top, below = figure.axes[:2]
    assert np.array_equal(top.images[0].get_array(), counts.T)
    assert [line.get_label() for line in below.lines] == ["velocity x", "velocity y"]
    assert below.get_xlabel().endswith("(s)") and below.get_ylabel() == "Velocity (cm/s)"
    assert "made up" in figure._suptitle.get_text()
    around = plot_spike_window(counts, 0.02, np.ones((4, 2)), "rad", task="head", circular=True).axes[1]
    assert [line.get_label() for line in around.lines] == ["cosine of head", "sine of head"]
    alone = plot_spike_window(counts, 0.02, np.ones((4, 0)), "")
    assert len(alone.axes) == 2 and alone.axes[0].get_xlabel().endswith("(s)")  # with the colours' bar


def test_a_training_stands_beside_its_baselines():
    history = [{"step": s, "train_masked": 0.5, "train_behaviour": 1 / (s + 1)} for s in range(30)]
    history += [{"step": 10, "val_r2": 0.3, "val_bits_per_spike": 0.1}, {"step": 20, "val_r2": 0.5}]
    panels = plot_spike_training(history, best_r2=0.9).axes
    assert panels[1].lines[0].get_ydata().tolist() == [0.3, 0.5] and panels[1].lines[1].get_ydata() == [0, 0]
    assert "0.90" in panels[1].lines[2].get_label() and "bit/spike" in panels[2].get_ylabel()
    assert len(plot_spike_training([]).axes) == 3


def test_decoders_are_bars_of_means_best_first():
    rows = [
        ("a", "Wiener", 0.5),
        ("b", "Wiener", 0.7),
        ("a", "NeuroFM", 0.8),
        ("b", "NeuroFM", 0.9),
        ("a", "mean", -0.1),
    ]
    scores = [SimpleNamespace(recording=r, decoder=d, r2=v, angle_deg=float("nan")) for r, d, v in rows]
    (axes,) = plot_decoders(scores).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["NeuroFM", "Wiener", "mean"]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.85, 0.6, -0.1])
    rows = [("mean", -0.1, 80.0), ("Bayes", 0.9, 11.0)]
    angles = [SimpleNamespace(recording="a", decoder=d, r2=r2, angle_deg=angle) for d, r2, angle in rows]
    assert [bar.get_height() for bar in plot_decoders(angles).axes[1].patches] == [11.0, 80.0]


def test_bits_stand_over_the_mean_rates_zero():
    (axes,) = plot_bits_per_spike({"a": 0.2, "b": -0.1}, {"a": 0.8, "b": 0.3}).axes
    assert [bar.get_height() for bar in axes.patches] == [0.2, -0.1]
    assert axes.get_xticklabels()[1].get_text() == "b\nSNR 0.30" and "mean rate" in axes.lines[0].get_label()
