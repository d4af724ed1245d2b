"""The score of each channel alone: against scikit-learn's cross-validation, a planted region, and shuffled targets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.judging.predictions import Predictions
from nbkit.neuro.decoding.judging.statistics import best_by_chance
from nbkit.neuro.decoding.rivals.scalp import scalp_scores
from nbkit.neuro.plots.scalp.scores import plot_scalp
from nbkit.neuro.training.power_ridge import log_band_powers

NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")


def planted(people: int = 8, windows: int = 12, seed: int = 0, classes: bool = True) -> DecodingTask:
    """Return windows whose target is in the alpha of O1 and O2 alone."""
    rng, count, sfreq = np.random.default_rng(seed), people * windows, 100.0
    target = rng.permuted(np.tile(np.arange(windows) % 2, (people, 1)), axis=1).ravel().astype(float)
    target = target if classes else target + 0.1 * rng.normal(size=count)
    signal = 10.0 * rng.normal(size=(count, len(NAMES), 200))
    tone = np.sin(2 * np.pi * 10 * np.arange(200) / sfreq + rng.uniform(0, 6, (count, 1)))
    signal[:, 4:] += (8.0 * (1 + target))[:, None, None] * tone[:, None]
    names = np.array([f"s{number}" for number in np.repeat(np.arange(people), windows)])
    kind = "classification" if classes else "regression"
    return DecodingTask(
        "planted", kind, signal.astype(np.float32), target.astype(int) if classes else target, names, sfreq, NAMES,
        ("low", "high") if classes else (), strategy="leave_one_group_out",
    )  # fmt: skip


def test_a_channel_scores_what_scikit_learn_gives():
    task = planted()
    found = scalp_scores(task)
    powers = log_band_powers(task.windows, task.sfreq).reshape(len(task.windows), len(NAMES), -1)
    model = LinearDiscriminantAnalysis(priors=[0.5, 0.5])
    for band, part in ((0, slice(None)), (3, slice(2, 3))):  # all bands; alpha
        said = cross_val_predict(model, powers[:, 4, part], task.target, groups=task.groups, cv=LeaveOneGroupOut())
        assert found.score[band, 4] == pytest.approx(balanced_accuracy_score(task.target, said))
    assert found.bands == ("all", "delta", "theta", "alpha", "beta", "gamma") and found.trivial == 0.5


@pytest.mark.train
@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
def test_a_planted_region_is_found_and_shuffled_targets_show_none(classes):
    task = planted(classes=classes)
    found, shuffled = scalp_scores(task), scalp_scores(task.permuted(0))
    above = found.score > found.reached
    assert {NAMES[channel] for channel in np.flatnonzero(above[0])} == {"O1", "O2"}
    assert not above[[1, 4, 5]].any() and above[3, 4:].all()  # in alpha, and in no band beside its neighbour
    assert shuffled.score.max() < shuffled.reached + 0.05 < found.score[0, 4:].min()  # in 5 % of cases it is above
    assert (found.low <= found.score).all() and (found.score <= found.high).all()
    assert found.words()[0].startswith(("O1", "O2"))


def test_the_chance_of_the_best_is_that_of_all_renamings():
    rng, groups = np.random.default_rng(1), 4
    target, of = np.tile([0, 1], 3 * groups), np.repeat(np.arange(groups), 6)
    several = []
    for _ in range(3):
        chance = rng.uniform(size=len(target))
        both = np.stack([1 - chance, chance], 1)
        several.append(Predictions("classification", both, target, of.astype(str), of, np.arange(len(target))))
    best = []
    for swap in itertools.product((False, True), repeat=groups):
        renamed = np.where(np.array(swap)[of], 1 - target, target)
        best.append(max(balanced_accuracy_score(renamed, one.predicted.argmax(1)) for one in several))
    draws = best_by_chance(several, draws=4000)
    assert np.mean(np.array(best) > draws + 1e-9) <= 0.06 and np.mean(np.array(best) >= draws - 1e-9) >= 0.04


def test_the_figure_has_a_head_for_each_band_and_bars_where_names_are_unknown():
    task = planted()
    found = scalp_scores(task)
    figure = plot_scalp(found, found)
    titles = [axes.get_title() for axes in figure.axes]
    assert [title.split("\n")[0] for title in titles[:7]] == [*found.bands, "all, targets shuffled"]
    unknown = plot_scalp(
        scalp_scores(DecodingTask(**{**task.__dict__, "ch_names": tuple("ABCDEF")})), stand_in="made up"
    )
    assert len(unknown.axes) == 1 and "made up" in unknown.get_suptitle()
