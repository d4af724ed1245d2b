"""The haemodynamic layer: its kernel against nilearn's, and where an impulse comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.signals.imaging.hrf import peak_lag
from nbkit.neuro.tribe.student.response import HRFLayer


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
    out = layer(x)[0] - x[0]  # without the residual
    assert out[:10].abs().max() == 0 and out[18:].abs().max() == 0
    assert out[:, 0].argmax() == 13  # 4.5 s: what the flip is for; unflipped it would be 14
    np.testing.assert_allclose(out[10:18, 1].detach(), layer.kernels()[1], atol=1e-6)


def test_the_residual_is_there():
    layer, x = HRFLayer(2), torch.randn(1, 9, 2)
    with torch.no_grad():
        layer.weight.zero_()
    torch.testing.assert_close(layer(x), x)


def test_kernels_move_to_another_grid():
    layer = HRFLayer(2, tr=1.0)
    area, peak = layer.kernels().sum(1), peak_lag(layer.kernels()[0], 1.0)
    layer.move_to(1.49)
    assert layer.tr == 1.49
    np.testing.assert_allclose(layer.kernels().sum(1), area, rtol=1e-5)
    assert abs(peak_lag(layer.kernels()[0], 1.49) - peak) < 0.5  # s, a third of a step
