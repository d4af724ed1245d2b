"""The probe during pretraining: planted latents, useless ones, and what both pretrainings log of it."""

from __future__ import annotations

import lightning
import pytest
import torch
from sklearn.linear_model import Ridge

from nbkit.neuro.training.band_probe import BANDS, NAME, BandProbe, band_powers
from tests.neuro.jepa import training as jepa
from tests.neuro.labram.training import Windows, train


def drawn(count: int = 64, seed: int = 0) -> torch.Tensor:
    """Windows of 3 channels by 2 s at 100 Hz, each band with a size of its own in every window."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(200) / 100.0
    windows = torch.zeros(count, 3, 200)
    for low, high in BANDS:
        size = torch.exp(torch.randn(count, 1, 1, generator=generator))
        phase = 6.28 * torch.rand(count, 3, 1, generator=generator)
        windows += 10 * size * torch.sin(6.28 * (low + high) / 2 * time + phase)
    return windows


def probed(latents: torch.Tensor, windows: torch.Tensor) -> float:
    probe = BandProbe(100.0)
    for rows in torch.arange(len(windows)).split(8):
        probe.add(latents[rows], windows[rows])
    return probe.r2()


def test_latents_that_hold_the_powers_are_told_from_those_that_do_not() -> None:
    windows = drawn()
    powers = band_powers(windows, 100.0)
    generator = torch.Generator().manual_seed(1)
    mixed = powers @ torch.randn(4, 10, generator=generator) + 0.01 * torch.randn(64, 10, generator=generator)
    assert probed(mixed, windows) > 0.95
    assert probed(torch.randn(64, 10, generator=generator), windows) < 0.1
    assert probed(torch.zeros(64, 10), windows) == pytest.approx(0.0, abs=0.1)


def test_the_ridge_is_sklearns() -> None:
    windows, generator = drawn(), torch.Generator().manual_seed(2)
    latents = band_powers(windows, 100.0) @ torch.randn(4, 6, generator=generator) + torch.randn(
        64, 6, generator=generator
    )
    even = torch.arange(64) // 8 % 2 == 0
    x, y, seen, true = (part.double() for part in (latents[even], band_powers(windows[even], 100.0), latents[~even],
                        band_powers(windows[~even], 100.0)))  # fmt: skip
    scale = x.std(0)
    told = Ridge(alpha=0.01 * len(x)).fit((x - x.mean(0)) / scale, y).predict((seen - x.mean(0)) / scale)
    r2 = 1 - ((torch.from_numpy(told) - true) ** 2).sum(0) / ((true - y.mean(0)) ** 2).sum(0)
    assert probed(latents, windows) == pytest.approx(float(r2.mean()), rel=1e-4)


def test_too_few_windows_or_no_band_give_no_score() -> None:
    probe = BandProbe(100.0)
    assert probe.r2() is None
    probe.add(torch.randn(4, 3), drawn(4))
    probe.add(torch.randn(4, 3), drawn(4))
    assert probe.r2() is None
    assert band_powers(torch.randn(2, 3, 40), 4.0).shape == (2, 0)


def test_both_pretrainings_log_it_at_each_validation() -> None:
    from tests.neuro.labram.test_pretrain import made as masked

    data = Windows()
    lightning.seed_everything(1, verbose=False)
    for module in (masked(), jepa.made(jepa.SETTINGS)):
        logged = train(module, data, 2).callback_metrics
        assert NAME in logged and torch.isfinite(logged[NAME])
        assert module._probe is None, "a checkpoint holds no validation"
