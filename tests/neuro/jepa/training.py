"""Small data and short trainings for JEPA's tests."""

from __future__ import annotations

from dataclasses import replace

import lightning

from nbkit.neuro.jepa.encoder import EncoderSettings
from nbkit.neuro.jepa.pretrain import JEPA, PretrainSettings
from tests.neuro.labram.training import CH_NAMES, Windows, train

__all__ = ["SETTINGS", "Windows", "made", "train"]

ENCODER = replace(EncoderSettings.smoke(), n_chans=4, sfreq=20.0, fmax=10.0, fourier_dim=8, dim=8, d_state=4, heads=2)
SETTINGS = replace(PretrainSettings.smoke(), encoder=ENCODER, steps=30, warmup_steps=3, patience_steps=0)


def made(settings: PretrainSettings = SETTINGS) -> JEPA:
    lightning.seed_everything(1, verbose=False)
    return JEPA(settings, CH_NAMES)
