"""Scores of generated windows: scipy's spectra, brute-force neighbours, planted classes and copies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import welch

from nbkit.neuro.bandvar.tokens.generated_scores import (
    PowerClassifier,
    balanced_accuracy,
    band_powers,
    chance_accuracies,
    judge,
    mean_spectrum,
    most_alike_tokens,
    nearest_distances,
    score_rows,
    spectrum_gap,
)


@pytest.mark.parametrize("steps", [200, 201])
def test_spectra_are_scipys(steps):
    windows = np.random.default_rng(0).normal(size=(5, 3, steps)) + 4
    freqs, density = mean_spectrum(windows, 100.0)
    known_freqs, known = welch(windows, 100.0, window="hann", nperseg=steps, detrend="constant")
    np.testing.assert_allclose(freqs, known_freqs)
    np.testing.assert_allclose(density, known.mean(axis=0), rtol=1e-8, atol=1e-20)


def test_half_the_amplitude_is_six_db_down():
    real = np.random.default_rng(0).normal(size=(5, 3, 200))
    freqs, gap = spectrum_gap(real / 2, real, 100.0)
    np.testing.assert_allclose(gap, -20 * math.log10(2))
    assert (freqs[0], freqs[-1]) == (1.0, 40.0)


def test_a_tones_power_is_in_its_band():
    tone = 3 * np.sin(2 * np.pi * 10 * np.arange(200) / 100)[None, None]
    powers = band_powers(tone, 100.0, ((4, 8), (8, 13), (13, 30)))[0, 0]
    assert powers[1] == pytest.approx(4.5, rel=0.01) and powers[[0, 2]].max() < 0.01


def test_nearest_is_brute_forces():
    draws = np.random.default_rng(0)
    queries, references = draws.normal(size=(7, 2, 5)), draws.normal(size=(9, 2, 5))
    references[4] = queries[2]
    found = nearest_distances(queries, references, at_once=3)
    brute = [min(math.sqrt(((q - r) ** 2).mean()) for r in references) for q in queries]
    np.testing.assert_allclose(found, brute)
    assert found[2] == 0


def test_alike_tokens_tell_a_copy():
    references = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    shares = most_alike_tokens(np.array([[5, 6, 7, 8], [1, 2, 0, 0], [4, 3, 2, 1]]), references)
    assert shares.tolist() == [1.0, 0.5, 0.0]


def windows_of(classes, seed, gain=2.0):
    """One class has more power at 10 Hz in the first channel."""
    draws = np.random.default_rng(seed)
    made = draws.normal(size=(len(classes), 3, 200))
    phase = draws.uniform(0, 2 * np.pi, size=(len(classes), 1))
    tone = np.sin(2 * np.pi * 10 * np.arange(200) / 100 + phase)
    made[:, 0] += gain * tone * (np.asarray(classes) == "rest")[:, None]
    return made


CLASSES = np.array(["rest", "move", "rest", "move"] * 20)


def test_the_classifier_finds_a_planted_class_and_none_where_there_is_none():
    classifier = PowerClassifier(100.0).fit(windows_of(CLASSES, 0), CLASSES)
    assert classifier.accuracy(windows_of(CLASSES, 1), CLASSES) > 0.95
    nothing = PowerClassifier(100.0).fit(windows_of(CLASSES, 0, 0.0), CLASSES)
    assert 0.3 < nothing.accuracy(windows_of(CLASSES, 1, 0.0), CLASSES) < 0.7


def test_accuracy_is_balanced_and_chance_is_chance():
    classes = ["a"] * 9 + ["b"]
    assert balanced_accuracy(["a"] * 10, classes) == 0.5
    chance = chance_accuracies(CLASSES, CLASSES)
    assert chance.mean() == pytest.approx(0.5, abs=0.01) and chance.max() < 0.9


def given_to_judge(**changed):
    train, held_out, made = windows_of(CLASSES, 0), windows_of(CLASSES, 1), windows_of(CLASSES, 2)
    tokens = [np.random.default_rng(seed).integers(0, 99, size=(80, 12)) for seed in (0, 1, 2)]
    given = dict(
        generated=made, decoder_alone=made / 2, asked=CLASSES, tokens=tokens[2], train=train, train_classes=CLASSES,
        train_tokens=tokens[0], held_out=held_out, held_out_classes=CLASSES, held_out_tokens=tokens[1], sfreq=100.0,
    )  # fmt: skip
    return {**given, **changed}


def test_good_windows_are_judged_good():
    scores = judge(**given_to_judge())
    assert scores["spectrum_gap_max"] < 3 < 4.5 < scores["spectrum_gap_max_decoder_alone"]
    assert scores["class_accuracy_generated"] > 0.9 and scores["class_p_value"] < 0.01
    assert scores["nearest_distance"] == pytest.approx(scores["nearest_distance_real"], rel=0.1)
    assert scores["tokens_alike_most"] < 0.5


def test_copies_and_ignored_classes_are_judged_so():
    given = given_to_judge()
    scores = judge(**{**given, "generated": given["train"], "tokens": given["train_tokens"]})
    assert scores["nearest_distance"] == 0 and scores["tokens_alike_most"] == 1
    shuffled = np.random.default_rng(5).permutation(CLASSES)
    scores = judge(**given_to_judge(asked=shuffled))
    assert 0.35 < scores["class_accuracy_generated"] < 0.65 and scores["class_p_value"] > 0.02


def test_windows_without_a_class_take_no_part_in_the_verdict():
    unknown = CLASSES.copy()
    unknown[:20] = ""
    scores = judge(**given_to_judge(train_classes=unknown, held_out_classes=unknown))
    assert scores["class_accuracy_generated"] > 0.9


def test_rows_have_a_baseline_each():
    rows = score_rows(judge(**given_to_judge()))
    assert len(rows) == 10 and all({"name", "value", "unit", "baseline", "baseline_is"} == set(row) for row in rows)
