"""Figures of spikes show what they are given, with units."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from nbkit.neuro.plots.spikes import (
    plot_bits_per_spike,
    plot_decoders,
    plot_spike_recordings,
    plot_spike_training,
    plot_spike_window,
)


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


def drawn(recording, decoder, value, error=float("nan"), unit="", is_classes=False):
    return SimpleNamespace(
        recording=recording, decoder=decoder, value=value, error=error, unit=unit, is_classes=is_classes
    )


def test_decoders_are_bars_of_means_best_first():
    rows = [
        ("a", "Wiener", 0.5),
        ("b", "Wiener", 0.7),
        ("a", "NeuroFM", 0.8),
        ("b", "NeuroFM", 0.9),
        ("a", "mean", -0.1),
    ]
    scores = [drawn(r, d, v) for r, d, v in rows]
    (axes,) = plot_decoders(scores).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["NeuroFM", "Wiener", "mean"]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.85, 0.6, -0.1])
    rows = [("mean", -0.1, 80.0), ("Bayes", 0.9, 11.0)]
    angles = [drawn("a", d, r2, angle, "deg") for d, r2, angle in rows]
    assert [bar.get_height() for bar in plot_decoders(angles).axes[1].patches] == [11.0, 80.0]


def test_classes_and_errors_in_each_unit_have_their_own_panel():
    scores = [
        drawn("a", "LDA", 0.4, is_classes=True),
        drawn("b", "GRU", 0.8, 7.0, "deg"),
        drawn("c", "GRU", 0.5, 9.0, "px"),
    ]
    labels = [axes.get_ylabel() for axes in plot_decoders(scores).axes]
    assert len(labels) == 4 and "right class" in labels[1] and "(degrees)" in labels[2] and "(px)" in labels[3]
    assert len(plot_decoders([]).axes) == 1


def test_bits_stand_over_both_null_models():
    bits = {"a": SimpleNamespace(over_training=0.2, over_evaluated=0.1, unit="bit/spike"),
            "b": SimpleNamespace(over_training=-0.1, over_evaluated=-0.2, unit="bit/sample")}  # fmt: skip
    (axes,) = plot_bits_per_spike(bits, {"a": 0.8, "b": 0.3}).axes
    assert [bar.get_height() for bar in axes.patches] == [0.2, -0.1, 0.1, -0.2]
    assert axes.get_xticklabels()[1].get_text() == "b\nSNR 0.30" and "bit/spike, bit/sample" in axes.get_ylabel()
    assert "NLB" in axes.get_legend_handles_labels()[1][1]


def test_what_was_not_observed_is_drawn_over_and_a_trace_has_both_signs():
    counts, behaviour = np.arange(12.0).reshape(4, 3) - 5, np.zeros((4, 0))
    observed = np.array([[True], [False], [True], [True]])
    figure = plot_spike_window(counts, 0.1, behaviour, "", activity="trace", observed=observed)
    image, unseen = figure.axes[0].images
    assert image.norm.vmin == -image.norm.vmax and image.colorbar.ax.get_ylabel() == "Trace, dF/F (1)"
    assert unseen.get_array().mask.T.tolist() == observed.repeat(3, axis=1).tolist()
    plain = plot_spike_window(abs(counts), 0.1, behaviour, "", observed=np.ones((4, 1), bool))
    assert len(plain.axes[0].images) == 1


def test_each_recording_has_its_units_signal_and_observed_share():
    shards = [
        SimpleNamespace(name="a", n_units=5, snr=0.7, activity="spikes", observed=np.ones((3, 4, 1), bool)),
        SimpleNamespace(name="b", n_units=9, snr=0.1, activity="trace", observed=np.eye(4, dtype=bool)[None]),
    ]
    axes = plot_spike_recordings(shards).axes
    assert [[bar.get_width() for bar in panel.patches] for panel in axes] == [[5, 9], [0.7, 0.1], [1.0, 0.25]]
    assert [tick.get_text() for tick in axes[0].get_yticklabels()] == ["a (spikes)", "b (trace)"]
