"""Beside a trait: its average over each subject, and age and sex without any EEG."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nbkit.neuro.training.held_out.values import of_people


class Side:
    """Windows of people, with columns of their own."""

    def __init__(self, people, seed, columns=("age", "sex"), windows=5):
        rng = np.random.default_rng(seed)
        age, sex = rng.uniform(5, 21, people), rng.integers(0, 2, people).astype(float)
        every = {"age": age, "sex": sex, "target": 0.2 * age - sex + 0.1 * rng.normal(size=people)}
        self.subjects = np.repeat([f"S{seed}{number:02d}" for number in range(people)], windows)
        self._columns = {n: np.repeat(v, windows) for n, v in every.items() if n in (*columns, "target")}
        self.column_names = tuple(self._columns)

    def column(self, name):
        return self._columns[name]


def data(columns=("age", "sex")):
    return SimpleNamespace(train_dataset=Side(40, 1, columns), test_dataset=Side(20, 2, columns))


def test_age_and_sex_predict_what_hangs_on_them_and_an_average_is_of_windows():
    given = data()
    target = given.test_dataset.column("target")
    noisy = target + np.random.default_rng(0).normal(size=len(target))
    found = of_people(given, "target", noisy)
    assert list(found) == ["pretrained, averaged by subject", "ridge on age and sex, no EEG"]
    error = {name: np.mean((values - target) ** 2) for name, values in found.items()}
    assert error["ridge on age and sex, no EEG"] < 0.05 * target.var()
    assert error["pretrained, averaged by subject"] < 0.5 * np.mean((noisy - target) ** 2)
    each = found["pretrained, averaged by subject"].reshape(20, 5)
    assert np.ptp(each, axis=1).max() == 0 and each[:, 0] == pytest.approx(noisy.reshape(20, 5).mean(1))


def test_missing_values_and_columns_are_lived_with():
    given = data()
    given.train_dataset._columns["age"][:5] = np.nan
    assert np.isfinite(
        of_people(given, "target", given.test_dataset.column("target"))["ridge on age and sex, no EEG"]
    ).all()
    without = data(columns=())
    assert list(of_people(without, "target", np.zeros(100))) == ["pretrained, averaged by subject"]


def test_a_target_of_each_trial_is_no_trait():
    given = data()
    given.test_dataset._columns["target"] = np.arange(100.0)
    assert of_people(given, "target", np.zeros(100)) == {}
