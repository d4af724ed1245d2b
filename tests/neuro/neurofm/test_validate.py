"""What a model is worth: beside the best there is on planted tuning, beside Bayes on a real mouse."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.neurofm.data.batches import SpikeData
from nbkit.neuro.neurofm.decoders.rivals import BAYES, GRU, MEAN, WIENER
from nbkit.neuro.neurofm.masked_units import held_out_bits
from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.neurofm.validate import (
    MODEL,
    OPTIMAL,
    compare_decoders,
    comparison,
    decode,
    mean_scores,
    result_rows,
)
from nbkit.neuro.signals.spikes.binned import bin_recording
from nbkit.neuro.signals.spikes.nwb import load_nwb
from nbkit.neuro.signals.spikes.recording import SpikeRecording
from nbkit.neuro.signals.spikes.windows import write_windows
from tests.neuro.neurofm.spike_files import TINY, train, write_populations


def trained(data, settings) -> Pretrainer:
    lightning.seed_everything(1, verbose=False)
    module = Pretrainer.for_data(settings, data)
    options = {} if len(data.windows[0][1]) else {"limit_val_batches": 0}
    train(module, data, settings.steps, **options)
    return module


@pytest.mark.train
def test_known_tuning_is_decoded_near_the_best(tmp_path):
    paths = write_populations(tmp_path, units=(60, 60), seconds=100.0)
    data = SpikeData(paths, gap_s=1.0)
    module = trained(data, replace(TINY, dim=32, steps=180))
    scores = compare_decoders(module, data, gru_steps=100)
    means = mean_scores(scores)
    assert list(means) == [OPTIMAL, MODEL, GRU, WIENER, MEAN]
    # At seconds of training it comes near to what is possible, and nothing stands above.
    assert 0.85 * means[OPTIMAL] < means[MODEL] < means[OPTIMAL] and means[MEAN] < 0.01
    bits = held_out_bits(module, data.side("test"))
    assert min(bit.over_training for bit in bits.values()) > 0.15
    rows = {row["name"]: row for row in result_rows(scores, bits)}
    assert rows["test_r2_neurofm"]["baseline"] == means[WIENER]
    assert rows["test_bits_per_spike"]["value"] == pytest.approx(np.mean([b.over_training for b in bits.values()]))
    assert rows["test_bits_per_spike_nlb"]["value"] < rows["test_bits_per_spike"]["value"]
    assert "NeuroFM  R2" in comparison(scores) and "blocks" in comparison(scores)


def test_bits_are_zero_for_the_mean_rate_model_and_decoding_is_in_its_unit(tmp_path):
    data = SpikeData(write_populations(tmp_path, units=(9, 5)), gap_s=1.0)
    module = Pretrainer.for_data(TINY, data)
    bits = held_out_bits(module, data.side("test"))
    assert {name: bit.over_training for name, bit in bits.items()} == pytest.approx({"rec0": 0, "rec1": 0}, abs=1e-6)
    assert all(bit.over_evaluated <= 0 for bit in bits.values()), "the null model knows the mean that it predicts"
    for weight in (module.model.behaviour.outer, module.model.behaviour.outer_bias_embed):
        torch.nn.init.zeros_(weight)
    decoded = decode(module, data.side("test"))
    assert decoded["rec1"].shape == (len(data.windows[1][2]), 20, 2)
    assert np.allclose(decoded["rec0"], data.table.tasks[0].mean, atol=1e-5)


def head_direction(shared_data, folder, shuffled=False) -> SpikeData:
    path = shared_data / "spikes_hd_mouse" / "A2929-200711.nwb"
    if not path.is_file():
        pytest.skip("the mouse's recording (../shared/data/spikes_hd_mouse) is not here")
    mouse = load_nwb(path, name="mouse", species="mouse", behaviour=("ry",))
    times = mouse.behaviour["ry"].times
    adn = mouse.within(times[0], times[-1]).keep(np.array(mouse.regions) == "adn")
    binned = bin_recording(adn, 0.2, "ry")
    if shuffled:
        binned = replace(binned, behaviour=np.random.default_rng(0).permutation(binned.behaviour))
    return SpikeData(write_windows(folder, [binned], 50), fractions=(0.5, 0.0, 0.5), gap_s=0.0)


HEAD = replace(NeuroFMSettings.smoke(), bin_s=0.2, curriculum_share=0.0, patience_steps=0, steps=150)


@pytest.mark.train
def test_a_real_mouses_head_direction_is_decoded_as_by_bayes(shared_data, tmp_path):
    data = head_direction(shared_data, tmp_path)
    module = trained(data, HEAD)
    scores = {score.decoder: score for score in compare_decoders(module, data, lag_s=1.0, gru_steps=100)}
    assert scores[BAYES].error == pytest.approx(9.5, abs=0.7)  # 11 from single bins
    assert scores[MODEL].error < 14 and scores[MODEL].value > 0.85  # in degrees; chance is 90
    assert scores[MEAN].error > 50
    assert held_out_bits(module, data.side("test"))["mouse"].over_training > 0.8


def test_shuffled_behaviour_gives_chance(shared_data, tmp_path):
    data = head_direction(shared_data, tmp_path, shuffled=True)
    scores = compare_decoders(trained(data, replace(HEAD, steps=40)), data, lag_s=1.0, gru_steps=20)
    for score in scores:
        assert score.error > 60 and score.value < 0.05, score


@pytest.mark.train
def test_many_units_of_a_probe_are_foretold_on_held_out_time(shared_data, tmp_path):
    path = shared_data / "spikes_ibl" / "ephys_test.npz"
    if not path.is_file():
        pytest.skip("the probe's spikes (../shared/data/spikes_ibl) are not here")
    with np.load(path) as file:
        probe = SpikeRecording.from_arrays("ibl", file["spike_times"], file["spike_clusters"], species="mouse")
    data = SpikeData(write_windows(tmp_path, [bin_recording(probe, 0.05)], 40), fractions=(0.7, 0.0, 0.3), gap_s=1.0)
    settings = replace(HEAD, bin_s=0.05, n_bins=40, max_units=384, steps=100, forecast_weight=0.0, contrast_weight=0.0)
    assert held_out_bits(trained(data, settings), data.side("test"))["ibl"].over_training > 0.05
    assert compare_decoders(trained(data, replace(settings, steps=1)), data) == []  # it has no behaviour
