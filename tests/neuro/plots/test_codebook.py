"""Figures of codes: what they say is what is in the numbers, and nothing stands without its chance."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from nbkit.neuro.plots.codebook import (  # noqa: E402
    plot_code_use,
    plot_codebook_training,
    plot_masked_accuracy,
    plot_reconstruction,
)


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_code_use_says_perplexity_and_unused_codes():
    axes = plot_code_use([0, 10, 10, 0, 10], title="Toy").axes[0]
    assert axes.get_title(loc="left") == "Toy: 2 of 5 codes unused over 30 patches"
    assert any("perplexity (3.0 codes)" in text for text in labels(axes))
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == sorted(heights, reverse=True) and sum(heights) == pytest.approx(100)
    with pytest.raises(ValueError, match="some above 0"):
        plot_code_use([0, 0])


def test_accuracy_stands_beside_both_chances():
    rows = [
        {"step": 5, "mem_loss": 6.0},
        {"step": 10, "val_mem_loss": 5.0, "val_mlm_acc": 0.2, "val_commonest_code": 0.1,
         "val_mem_loss_by_frequency": 5.5},
    ]  # fmt: skip
    left, right = plot_masked_accuracy(rows, 50, stand_in="synthetic").axes
    assert "most frequent code (10 %)" in labels(right) and "chance, 1 of 50 (2 %)" in labels(right)
    assert "by frequency (5.5 nat)" in labels(left)
    assert plot_masked_accuracy(rows, 50, stand_in="synthetic").get_suptitle() == "synthetic"
    assert right.get_lines()[0].get_ydata() == [20.0]


def test_training_shows_codes_in_use():
    rows = [{"step": 10, "val_tok_loss": 1.5, "val_unused_codes": 3, "val_perplexity": 4.0, "tok_loss": 1.6}]
    _, right = plot_codebook_training(rows, 8).axes
    assert [line.get_ydata()[0] for line in right.get_lines()] == [4.0, 5.0, 8]


def test_a_reconstruction_is_drawn_with_its_window():
    window = np.random.default_rng(0).normal(size=(6, 40))
    figure = plot_reconstruction(window, 0 * window, 20.0, list("abcdef"), patch=20, own_phase=window, picks=3)
    assert len(figure.axes) == 6 and all(axes.get_ylabel() for axes in figure.axes)
    assert figure.axes[-1].get_xlabel() == "Frequency (Hz)"
    np.testing.assert_array_equal(figure.axes[0].get_lines()[0].get_ydata(), window[0])
    bins = np.abs(np.fft.rfft(window[0].reshape(2, 20))).mean(0)
    np.testing.assert_allclose(figure.axes[1].get_lines()[0].get_ydata(), bins[1:] / 10)
    with pytest.raises(ValueError, match="both must be"):
        plot_reconstruction(window, window[:2], 20.0, list("abcdef"), patch=20)
