"""Probes on latents whose content is planted: found where it is, at chance where it is not, never across a split."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")

from nbkit.neuro.jepa.encoder import EVENT, STATE, TRAIT, Encoder, EncoderSettings  # noqa: E402
from nbkit.neuro.jepa.probes import TARGETS, encoded, linear_probe, middle, probe_all, probe_rows, questions  # noqa: E402
from nbkit.neuro.plots.probes import plot_probes  # noqa: E402
from nbkit.neuro.signals.hbn.synthetic import SyntheticHBNSettings, write_synthetic_hbn  # noqa: E402
from nbkit.neuro.signals.windows.shards import WindowShards  # noqa: E402

WORLD = replace(SyntheticHBNSettings.smoke(), subjects=10, n_chans=4, trials=5, seconds=20.0)
SIZES = replace(EncoderSettings.smoke(), n_chans=4, fourier_dim=4, dim=8, d_state=2)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return WindowShards(write_synthetic_hbn(tmp_path_factory.mktemp("hbn"), "pretrain", WORLD), (), "pretrain")


class Oracle(Encoder):
    """Latents that hold each label in its own block, and noise elsewhere."""

    def __init__(self, shards: WindowShards) -> None:
        super().__init__(SIZES)
        draws = np.random.default_rng(0)
        latents = draws.normal(size=(len(shards), 96))
        for target, labels, _, _ in questions(shards):
            codes = np.unique(labels, return_inverse=True)[1]
            block = {"subject": TRAIT, "condition": STATE, "event": EVENT}[target]
            table = 4 * draws.normal(size=(codes.max() + 1, block.stop - block.start))
            latents[:, block] += table[codes]
        self.latents, self.at = torch.from_numpy(latents).float(), 0

    def forward(self, windows):
        self.at += len(windows)
        return self.latents[self.at - len(windows) : self.at]


def test_what_is_planted_in_a_block_is_found_there_and_nowhere_else(shards):
    scores = probe_all({"trained": Oracle(shards), "untrained": Encoder(SIZES)}, shards, 200)
    assert {s.target for s in scores} == set(TARGETS)
    for score in (s for s in scores if s.features == "trained"):
        own = score.block in ("all", TARGETS[score.target])
        # other blocks hold noise, or labels that go along with this one: a stimulus comes in one condition only
        if own:
            assert score.accuracy > 0.95, score
        elif score.target == "subject":
            assert score.accuracy < score.chance + 0.2, score
        assert score.permuted < score.chance + 0.25, score
        classes = {"subject": 10, "condition": 2, "event": 2}[score.target]
        assert score.chance == pytest.approx(1 / classes)
    rows = {row["name"]: row for row in probe_rows(scores)}
    assert rows["probe_subject_from_trait"]["baseline"] == pytest.approx(0.1)
    untrained = next(s for s in scores if (s.target, s.features, s.block) == ("event", "untrained", "event"))
    assert rows["probe_event_from_event_gain"]["baseline"] == untrained.accuracy
    figure = plot_probes(scores, stand_in=shards.fact("data"))
    assert [axes.get_title().split(",")[0] for axes in figure.axes] == list(TARGETS)
    heights = sorted(bar.get_height() for bar in figure.axes[0].patches)
    drawn = [s.accuracy for s in scores if s.target == "subject" and s.features != "band powers"]
    assert heights == pytest.approx(sorted(drawn)) and figure.axes[0].get_ylabel() == "Balanced accuracy (1)"


def test_no_subject_and_no_overlapping_window_is_on_both_sides(shards):
    starts, names = shards.column("start_s"), shards.subjects
    for target, _, fitted, scored in questions(shards):
        assert fitted.any() and scored.any() and not (fitted & scored).any()
        if target == "subject":
            for shard in np.unique(shards.shard_of):
                own = shards.shard_of == shard
                assert starts[own & fitted].max() + 2.0 <= starts[own & scored].min()
        else:
            assert not set(names[fitted]) & set(names[scored])


def test_noise_is_told_at_chance():
    draws = np.random.default_rng(0)
    labels, fitted = draws.integers(4, size=2000).astype(str), np.arange(2000) < 1000
    accuracy, permuted = linear_probe(draws.normal(size=(2000, 30)), labels, fitted, ~fitted)
    assert abs(accuracy - 0.25) < 0.06 and abs(permuted - 0.25) < 0.06


def test_latents_are_those_of_the_middle_without_a_trace(shards):
    torch.manual_seed(0)
    encoder = Encoder(SIZES).train()
    values = encoded(encoder, shards.subset(np.arange(70)), 100)
    assert encoder.training and values.shape == (70, 96)
    window = torch.from_numpy(shards.subset([69]).stack())
    np.testing.assert_allclose(values[69:], encoder(window[..., 50:150]).detach(), rtol=1e-4, atol=1e-5)
    assert middle(window, None) is window and middle(window, 500) is window
