"""The uses on planted truths: what is bad is found, and a decoder is scored as by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.tokens.samples import RealWindows, Samples
from nbkit.neuro.bandvar.tokens.tokenizer import BandTokenizer
from nbkit.neuro.bandvar.uses.anomalies import AMPLITUDE, ARTIFACTS, POWER, TOKENS, Detection, area, detect, plant
from nbkit.neuro.bandvar.uses.augmentation import ALONE, GENERATED, NOISE, NONE, Augmented, augment
from nbkit.neuro.bandvar.uses.rows import use_rows
from nbkit.neuro.plots.bandvar.uses import plot_uses
from nbkit.neuro.signals.bands import cumulative_frequency_levels
from nbkit.neuro.signals.windows.shards import write_signal

BANDS = ((0.5, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 49.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six channels that share two sources, of four people."""
    folder, mix = tmp_path_factory.mktemp("eeg"), np.random.default_rng(9).normal(size=(6, 2))
    for subject in range(4):
        draws = np.random.default_rng(subject)
        signal = 3 * (mix @ np.cumsum(draws.normal(size=(2, 6000)), axis=1)) + 0.5 * draws.normal(size=(6, 6000))
        cuts = {"windows": (np.arange(0, 5900, 100), 100, {})}
        named = dict(ch_names=[f"c{n}" for n in range(6)], subject=f"S{subject}", data="synthetic", run="1")
        write_signal(folder / f"S{subject}", signal - signal.mean(), sfreq=100.0, cuts=cuts, **named)
    return BandData(folder, 8, val_fraction=0.5)


def test_an_artifact_is_what_its_signal_is_after_the_filters(data):
    levels = data.val_dataset[3].numpy()
    for kind in ARTIFACTS:
        bad = plant(kind, levels, 20.0, 100.0, BANDS, np.random.default_rng(0))
        touched = np.flatnonzero(np.abs(bad - levels).max(axis=(0, 2)) > 1e-3)
        assert bad.shape == levels.shape and len(touched) == 1
        powers = np.square(np.diff(bad - levels, axis=0, prepend=0.0)).mean(axis=(1, 2))
        if kind == "muscle burst":
            assert powers[3:].sum() > 0.8 * powers.sum()
    with pytest.raises(ValueError, match="is no artifact"):
        plant("sweat", levels, 20.0, 100.0, BANDS, np.random.default_rng(0))


def test_the_bands_of_an_artifact_are_those_of_the_sum():
    draws = np.random.default_rng(1)
    signal, canvas = draws.normal(size=(2, 4, 1000))
    whole = cumulative_frequency_levels(signal + canvas, 100.0, BANDS)
    parts = [cumulative_frequency_levels(one, 100.0, BANDS) for one in (signal, canvas)]
    np.testing.assert_allclose(whole, sum(parts), atol=1e-9)


def test_bad_windows_are_found_by_subject(data):
    rms = np.array(data.scale)
    tokenizer = BandTokenizer.fitted(data.train_dataset.stack(100), 32, 15, rms, samples=1000)
    found = detect(tokenizer, data, limit=60)
    assert len(found.subjects) == 2 and set(found.auc) == {
        (k, s) for k in ARTIFACTS for s in (AMPLITUDE, POWER, TOKENS)
    }
    assert found.mean(TOKENS).min() > 0.8  # the channels share sources: what one has alone is left over
    assert found.auc["strange channel", TOKENS].mean() > found.auc["strange channel", AMPLITUDE].mean() + 0.2


def test_the_area_is_that_of_all_pairs():
    draws = np.random.default_rng(0)
    clean, bad = draws.integers(5, size=30), draws.integers(6, size=20)
    pairs = [1.0 if b > c else 0.5 if b == c else 0.0 for b in bad for c in clean]
    assert area(clean, bad) == pytest.approx(np.mean(pairs))


def test_added_windows_help_a_decoder_that_has_seen_too_little():
    draws = np.random.default_rng(0)

    def windows(count, loud):
        return (loud * draws.normal(size=(count, 3, 100))).astype(np.float32)

    names = np.array(["quiet", "loud"])
    held = RealWindows(np.concatenate([windows(20, 1), windows(20, 3)]), np.repeat(names, 20), np.zeros((40, 1)))
    train = RealWindows(np.concatenate([windows(3, 3), windows(3, 1)]), np.repeat(names, 3), np.zeros((6, 1)))  # wrong
    good = np.concatenate([windows(200, 1), windows(200, 3)])
    made = Samples(np.repeat(names, 200), np.zeros((400, 1)), good[:, None], good, good)
    dataset = SimpleNamespace(column=lambda name: ["a", "b"] * 20, __len__=lambda: 40)

    class Held(list):
        column = staticmethod(dataset.column)

    data = SimpleNamespace(windows=SimpleNamespace(sfreq=100.0, bands=BANDS, val_dataset=Held(range(40))))
    RealWindows_of = RealWindows.of
    try:
        RealWindows.of = classmethod(lambda cls, *args, **options: held)
        result = augment(data, train, made)
    finally:
        RealWindows.of = RealWindows_of
    assert result.subjects == ("a", "b") and result.classes == 2
    assert result.accuracy[NONE].mean() < 0.2 < 0.9 < result.accuracy[GENERATED].mean()


def test_rows_stand_beside_their_rivals_with_the_interval_of_the_difference():
    auc = {(kind, score): np.full(8, value) for kind in ARTIFACTS
           for score, value in ((AMPLITUDE, 0.6), (POWER, 0.7), (TOKENS, 0.9))}  # fmt: skip
    accuracy = {NONE: np.linspace(0.5, 0.7, 8), NOISE: np.full(8, 0.6), GENERATED: np.linspace(0.5, 0.7, 8) + 0.02,
                ALONE: np.full(8, 0.6)}  # fmt: skip
    subjects = tuple("abcdefgh")
    rows = {row["name"]: row for row in use_rows(Detection(subjects, auc), Augmented(subjects, accuracy, 2))}
    assert (rows["anomaly_auc"]["value"], rows["anomaly_auc"]["baseline"]) == pytest.approx((0.9, 0.6))
    assert rows["anomaly_auc_against_band_power_gain"]["value"] == pytest.approx(0.2)
    assert rows["augmented_accuracy_gain_low"]["value"] == pytest.approx(0.02)
    assert rows["augmented_accuracy_against_noise"]["baseline"] == pytest.approx(0.6)
    figure = plot_uses(auc, accuracy, 0.5)
    assert len(figure.axes) == 2 and figure.axes[1].get_ylabel() == "Balanced accuracy (1)"
