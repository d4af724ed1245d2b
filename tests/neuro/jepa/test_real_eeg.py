"""Pretraining on a person's recorded EEG: the loss falls, and how many latents are in use is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.neuro.jepa.pretrain import JEPA, MONITOR, OBJECTIVES, PretrainSettings, pretraining_data
from nbkit.neuro.signals import eeg
from tests.neuro.labram.training import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_falls_on_a_real_recording(objective, eegbci_folder, tmp_path):
    paths = []
    for row in eeg.recordings("eegbci", subjects=[1], runs=[3, 4]):
        paths.append(tmp_path / f"{row['key']}.npz")
        np.savez(paths[-1], **eeg.make_windows(row, window_s=4.0, stride_s=2.0))
    smoke = PretrainSettings.smoke()
    settings = replace(smoke, encoder=replace(smoke.encoder, dim=16, fourier_dim=16), patience_steps=0).aimed(objective)
    data = pretraining_data(paths, settings, fractions=(0.5, 0.5, 0.0))
    assert (data.n_chans, data.n_times, data.describe(), data.split) == (64, 200, "real", "recording")
    torch.manual_seed(0)
    module = JEPA.for_data(settings, data)
    logged = []
    for steps in (4, 40):
        trainer = train(module, data, steps)
        logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    first, last = logged
    ratios = [row[MONITOR] / row["val_loss_by_mean"] for row in logged]
    assert all(np.isfinite(list(row.values())).all() for row in logged)
    if objective == "seed":
        assert last[MONITOR] < 0.5 * first[MONITOR]
    else:  # its latents grow towards a standard deviation of 1, and the error with them
        assert ratios[1] < 0.5 * ratios[0] and last["val_latent_contrast"] > first["val_latent_contrast"]
    assert last["val_effective_rank"] > 1
