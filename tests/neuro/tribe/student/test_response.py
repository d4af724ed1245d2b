"""The haemodynamic layer: its kernel against nilearn's, and where an impulse comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.signals.imaging.hrf import peak_lag
from nbkit.neuro.tribe.student.response import HRFLayer
from nbkit.neuro.tribe.student.student import StudentSettings


@pytest.mark.parametrize("tr", [1.0, 1.49, 2.0])
def test_the_first_kernel_is_nilearns(tr):
    from nilearn.glm.first_level import spm_hrf

    oversampled = spm_hrf(1.0, oversampling=1000, time_length=32.0)  # every ms
    at = np.round(np.arange(8) * tr * 1000).astype(int)
    theirs = oversampled[at] / oversampled[at].sum()
    ours = HRFLayer(3, tr=tr).kernels()
    np.testing.assert_allclose(ours, np.tile(theirs, (3, 1)), atol=2e-3)


def test_an_impulse_peaks_three_steps_later_and_never_before():
    layer, x = HRFLayer(2, tr=1.49), torch.zeros(1, 30, 2)
    x[0, 10] = 1.0
    out = layer(x)[0]
    assert out[:10].abs().max() == 0 and out[18:].abs().max() == 0
    assert out[:, 0].argmax() == 13  # 4.5 s: what the flip is for; unflipped it would be 14
    np.testing.assert_allclose(out[10:18, 1].detach(), layer.kernels()[1], atol=1e-6)


def test_the_residual_begins_at_nothing_and_is_part_of_what_is_shown():
    """With a residual of strength 1, lag 0 would be several times the peak of the first response."""
    layer, x = HRFLayer(2), torch.randn(1, 9, 2)
    assert abs(layer.kernels()[:, 0]).max() < 0.01 * layer.kernels().max()
    with torch.no_grad():
        layer.weight.zero_()
        assert layer(x).abs().max() == 0
        layer.residual.copy_(torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(layer(x), x * torch.tensor([1.0, 0.5]))
    assert layer.kernels()[:, 0].tolist() == [1.0, 0.5]
    layer.residual.sum().backward()
    assert layer.residual.grad is not None


def test_taps_reach_past_the_undershoot():
    settings = StudentSettings()
    assert settings.hrf_taps * settings.tr > 20


def test_kernels_move_to_another_grid():
    layer = HRFLayer(2, tr=1.0)
    area, peak = layer.kernels().sum(1), peak_lag(layer.kernels()[0], 1.0)
    layer.move_to(1.49)
    assert layer.tr == 1.49
    np.testing.assert_allclose(layer.kernels().sum(1), area, rtol=1e-5)
    assert abs(peak_lag(layer.kernels()[0], 1.49) - peak) < 0.5  # s, a third of a step
