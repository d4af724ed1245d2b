"""Figures of stand-in data carry a label, figures of real data do not."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from nbkit.ground.figures import caption_stand_in, title_stand_in, without_weights


@pytest.fixture
def figure():
    figure, axes = plt.subplots(layout="constrained")
    axes.plot([1, 2], label="a line")
    yield figure
    plt.close(figure)


@pytest.mark.parametrize(("data", "shown"), [("real", ""), ("", ""), ("synthetic HBN", "synthetic HBN")])
def test_a_title_names_stand_in_data_and_no_real_ones(figure, data, shown):
    title_stand_in(figure, data)
    assert figure.get_suptitle() == shown


def test_a_label_below_is_no_title(figure):
    title_stand_in(figure, "synthetic HBN", below=True)
    assert figure.get_suptitle() == "" and figure.texts[0].get_text() == "synthetic HBN"


@pytest.mark.parametrize(
    ("data", "weights", "label"),
    [
        ("real, 12 subjects", "trained here", ""),
        ("synthetic", "trained here", "synthetic"),
        ("real", "random, seed 0", "weights: random, seed 0"),
        ("synthetic", "untrained", "synthetic; weights: untrained"),
    ],
)
def test_a_caption_names_what_is_not_real(figure, data, weights, label):
    assert caption_stand_in(figure, {"data": data, "weights": weights}) == label
    assert [text.get_text() for text in figure.texts] == ([label] if label else [])


def test_a_caption_repeats_nothing_that_the_figure_says(figure):
    title_stand_in(figure, "Synthetic  HBN")
    assert caption_stand_in(figure, {"data": "synthetic HBN", "weights": "random"}) == "synthetic HBN; weights: random"
    assert figure.texts[-1].get_text() == "weights: random"


def test_a_figures_legend_stays_where_it_is_when_a_caption_is_saved_along(figure, tmp_path):
    legend = figure.legend(loc="upper right")
    caption_stand_in(figure, {"data": "synthetic"})
    before = legend.get_window_extent().bounds
    figure.savefig(tmp_path / "figure.png", bbox_inches="tight")
    assert legend.get_window_extent().bounds == pytest.approx(before)


def test_a_figure_of_signals_is_not_labelled_by_the_weights_of_its_phase():
    figure = without_weights(plt.figure())
    assert caption_stand_in(figure, {"data": "real", "weights": "random, seed 1"}) == ""
    assert caption_stand_in(figure, {"data": "synthetic", "weights": "random, seed 1"}) == "synthetic"
