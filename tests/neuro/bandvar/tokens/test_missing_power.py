"""Missing power: noise has the spectrum and the correlation that the decoder left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import welch

from nbkit.neuro.bandvar.tokens.missing_power import MissingPower

BANDS = ((0.5, 8.0), (8.0, 49.0))


def coloured(count, generator):
    """Two channels: slow noise that they share, fast noise of their own, and the slow one alone."""
    white = torch.randn(count, 3, 264, generator=generator)
    smooth = torch.nn.functional.avg_pool1d(white[:, :1], 17, 1)[..., :200] * 3
    fast = torch.diff(white[:, 1:], dim=-1)[..., :200]
    return torch.cat([smooth, 2 * smooth], 1) + fast, torch.cat([smooth, 2 * smooth], 1)


def test_noise_fills_up_to_the_real_spectrum():
    generator = torch.Generator().manual_seed(0)
    missing = MissingPower(2, 200, BANDS, 100.0)
    for _ in range(300):
        missing.update(*coloured(16, generator))
    real, decoded = coloured(400, generator)
    made = coloured(400, generator)[1] + missing.draw(400, generator)
    spectra = [welch(x.numpy(), 100.0, nperseg=200)[1].mean(axis=(0, 1))[2:80] for x in (made, real, decoded)]
    assert np.abs(10 * np.log10(spectra[0] / spectra[1])).max() < 1.0
    assert np.abs(10 * np.log10(spectra[2] / spectra[1])).max() > 6.0


def test_noise_is_correlated_as_the_rest_is():
    generator = torch.Generator().manual_seed(1)
    missing = MissingPower(2, 200, BANDS, 100.0)
    for _ in range(300):
        real = coloured(16, generator)[1]  # both channels are one source
        missing.update(real, torch.zeros_like(real))
    drawn = missing.draw(200, generator)
    assert np.corrcoef(drawn[:, 0].flatten(), drawn[:, 1].flatten())[0, 1] == pytest.approx(1, abs=0.01)
    assert (drawn[:, 1].std() / drawn[:, 0].std()).item() == pytest.approx(2, rel=0.05)


def test_a_perfect_decoder_and_an_unseen_one_leave_nothing():
    missing = MissingPower(2, 200, BANDS, 100.0)
    assert missing.draw(2).abs().max() == 0
    x = torch.randn(4, 2, 200)
    missing.update(x, x)
    assert missing.draw(2).abs().max() == 0


def test_draws_repeat_with_their_generator():
    missing = MissingPower(2, 200, BANDS, 100.0)
    missing.update(torch.randn(4, 2, 200), torch.zeros(4, 2, 200))
    first, second = (missing.draw(3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second) and first.abs().max() > 0


def test_equalised_windows_have_the_true_spectrum_and_nothing_is_added():
    torch.manual_seed(0)
    real, decoded = torch.randn(400, 3, 200), 0.2 * torch.randn(400, 3, 200) * torch.tensor([1.0, 2.0, 3.0])[:, None]
    missing = MissingPower(3, 200, ((0.5, 13.0), (13.0, 49.0)), 100.0)
    assert torch.allclose(missing.equalised(decoded), decoded, atol=1e-5)  # nothing is known yet
    for ours, theirs in zip(decoded.split(40), real.split(40), strict=True):
        missing.update(theirs, ours)
    made = missing.equalised(decoded)
    spectra = [torch.fft.rfft(one).abs().square().mean(dim=0) for one in (made, real)]
    assert (10 * torch.log10(spectra[0] / spectra[1])).abs()[:, 1:].max() < 1.5
    torch.testing.assert_close(missing.equalised(2 * decoded), 2 * made)  # a filter, no noise
    assert torch.equal(missing.equalised(decoded), made)
