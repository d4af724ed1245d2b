"""The baseline: it finds what was planted, and nothing in shuffled labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from nbkit.neuro.decoding.rivals.bandpower import BandPower, band_power_model
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.training.power_ridge import log_band_powers


def test_it_is_a_scikit_learn_transformer():
    windows = stand_in(6).windows
    power = BandPower(200.0, reference=None)
    assert clone(power).get_params() == power.get_params()
    with pytest.raises(NotFittedError):
        power.transform(windows)
    np.testing.assert_array_equal(power.fit_transform(windows), log_band_powers(windows, 200.0))
    with pytest.raises(ValueError, match="of 3 channels; fitted on 19"):
        power.transform(windows[:, :3])
    with pytest.raises(ValueError, match="choose one of 'auto'"):
        BandPower(reference="ear").fit(windows)


def test_many_channels_are_referenced_to_their_mean_and_few_are_not():
    windows = stand_in(6).windows
    centred = windows - windows.mean(1, keepdims=True)
    np.testing.assert_allclose(BandPower(200.0).fit_transform(windows), log_band_powers(centred, 200.0))
    few = windows[:, :4]
    np.testing.assert_array_equal(BandPower(200.0).fit_transform(few), log_band_powers(few, 200.0))


def test_it_finds_the_planted_rhythm_across_subjects():
    task = stand_in(40)
    trained = task.groups != "S04"
    model = band_power_model("classification", task.sfreq).fit(task.windows[trained], task.target[trained])
    assert model.score(task.windows[~trained], task.target[~trained]) == 1.0


def test_for_a_regression_it_predicts_a_power():
    task = stand_in(60)
    gain = np.random.default_rng(0).uniform(0.2, 3.0, 60)
    windows = task.windows * gain[:, None, None]
    model = band_power_model("regression", task.sfreq).fit(windows[:40], np.log(gain[:40]))
    assert model.score(windows[40:], np.log(gain[40:])) > 0.9
