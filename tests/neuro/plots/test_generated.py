"""Figures of generated windows: what is drawn is the data, and scores in titles are right."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from nbkit.neuro.plots.generated import (
    plot_band_powers,
    plot_by_scale,
    plot_class_samples,
    plot_codebook,
    plot_spectra,
)
from tests.neuro.plots.test_figures import clipped_text

NAMES = ("delta", "theta", "alpha")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def levels():
    return np.cumsum(20 * np.random.default_rng(0).normal(size=(3, 4, 100)), axis=0)


def test_scales_are_drawn_over_the_real_band_with_their_share(levels):
    made = 0.5 * levels
    figure = plot_by_scale(made, 100.0, NAMES, (2, 3, 5), real=levels, channel=1, ch_name="Cz", title="A window.")
    assert len(figure.axes) == 3 and clipped_text(figure) is None
    real, ours = figure.axes[2].get_lines()
    np.testing.assert_allclose(real.get_ydata(), levels[2, 1])
    np.testing.assert_allclose(ours.get_ydata(), made[2, 1])
    assert figure.axes[2].get_title("right") == "75 % of power explained"
    assert "10 tokens" in figure.axes[2].get_title("left") and figure.axes[2].get_xlabel() == "Time in the window (s)"
    alone = plot_by_scale(made, 100.0, NAMES, (2, 3, 5))
    assert len(alone.axes[0].get_lines()) == 1 and alone.axes[0].get_title("right") == ""


def test_codebook_stands_beside_its_size():
    history = [{"step": 1, "train_loss": 3.0}, {"step": 5, "val_perplexity": 3.0, "val_codes_used": 4.0}]
    figure = plot_codebook(history, np.array([1, 0, 2, 5]))
    left, right = figure.axes
    np.testing.assert_allclose([bar.get_height() for bar in right.patches], [62.5, 25, 12.5, 0])
    assert left.get_lines()[0].get_ydata() == [3.0] and left.get_lines()[2].get_ydata()[0] == 4
    assert clipped_text(figure) is None


def test_spectra_are_in_db_with_their_greatest_gap():
    freqs = np.arange(0, 50.5, 0.5)
    real = 1 / np.maximum(freqs, 0.5)
    densities = {"held-out": real, "generated": real / 2, "decoder alone": real / 10}
    figure = plot_spectra(freqs, densities)
    above, below = figure.axes
    np.testing.assert_allclose(above.get_lines()[0].get_ydata()[0], 0, atol=1e-9)  # 1 uV^2/Hz at 1 Hz
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "generated: at most 3.0 dB away" in words and "decoder alone: at most 10.0 dB away" in words
    assert "dB" in above.get_ylabel() and below.get_xlabel() == "Frequency (Hz)" and clipped_text(figure) is None


def test_band_powers_are_boxes_in_db():
    powers = {"held-out": np.full((9, 3), 10.0), "generated": np.full((9, 3), 100.0)}
    figure = plot_band_powers(powers, NAMES)
    levels = {round(float(y), 6) for line in figure.axes[0].get_lines() for y in line.get_ydata()}
    assert {10.0, 20.0} <= levels and [t.get_text() for t in figure.axes[0].get_xticklabels()] == list(NAMES)


def test_samples_say_what_they_were_taken_for():
    windows = np.random.default_rng(0).normal(size=(5, 2, 50))
    samples, said = {"rest": windows, "movement": 2 * windows}, {"rest": ["rest"] * 5, "movement": ["rest"] * 5}
    figure = plot_class_samples(samples, said, 100.0, channel=1, accuracy=0.5, accuracy_real=0.64)
    assert len(figure.axes) == 8 and clipped_text(figure) is None
    np.testing.assert_allclose(figure.axes[3].get_lines()[0].get_ydata(), 2 * windows[1, 1])
    assert "100 % of 5" in figure.axes[0].get_title("left") and "0 % of 5" in figure.axes[1].get_title("left")
    assert figure.axes[3].get_title("right") == "classified as rest"
    assert "0.64 on held-out windows" in figure._suptitle.get_text()
