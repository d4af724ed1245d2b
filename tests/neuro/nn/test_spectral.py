"""The Fourier layers' band in Hz, at any length."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.nn.spectral import FourierNetwork, SpectralConv1d


def sine(freq, seconds, sfreq, phase=0.3):
    time = torch.arange(round(seconds * sfreq), dtype=torch.float64) / sfreq
    return torch.sin(2 * torch.pi * freq * time + phase)[None, None]


def layer(in_channels=1, out_channels=1, **options) -> SpectralConv1d:
    torch.manual_seed(0)
    return SpectralConv1d(in_channels, out_channels, **{"sfreq": 100.0, **options}).double()


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_fifty_modes_are_the_band_below_50_hz_at_1_s_and_2_s(seconds):
    made = layer(sfreq=250.0)  # so that there is something above the band
    assert made.modes == 50
    for freq in (1, 12, 24, 26, 37, 49):  # 25 and 12.5 Hz are where neuralop's 26 modes end
        assert made(sine(freq, seconds, 250.0)).abs().max() > 1e-3
    for freq in (50, 51, 60, 100, 124):
        assert made(sine(freq, seconds, 250.0)).abs().max() < 1e-12


def test_modes_as_neuralop_counts_them_would_end_at_25_and_12_5_hz():
    kept = 50 // 2 + 1  # it halves the last axis of a real signal
    for seconds, its_end in ((1.0, 25.0), (2.0, 12.5)):
        theirs = np.fft.rfftfreq(round(100 * seconds), 1 / 100)[:kept]
        ours = layer().frequencies(round(100 * seconds)).numpy()
        assert theirs[-1] == its_end
        np.testing.assert_allclose(ours, np.arange(0, 50, 1 / seconds))


@pytest.mark.parametrize("freq", [0.0, 3.0, 17.0, 49.0])
def test_a_rhythm_gets_the_same_gain_and_phase_at_any_length(freq):
    made = layer()
    short, long = made(sine(freq, 1.0, 100.0)), made(sine(freq, 2.0, 100.0))
    torch.testing.assert_close(long[..., :100], short, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(long[..., 100:], short, rtol=1e-9, atol=1e-9)


def test_between_two_modes_the_weights_are_their_mean():
    made = layer()
    a, b = torch.view_as_complex(made.weight.detach())[[10, 11], 0, 0]
    y = made(sine(10.5, 2.0, 100.0))[0, 0]
    spectrum, given = torch.fft.rfft(y), torch.fft.rfft(sine(10.5, 2.0, 100.0)[0, 0])
    torch.testing.assert_close(spectrum[21] / given[21], (a + b) / 2)


@pytest.mark.parametrize("n_times", [1, 2, 99, 100, 201])
def test_it_is_the_product_of_spectra_written_out(n_times):
    made = layer(3, 2)
    x = torch.randn(4, 3, n_times, dtype=torch.float64)
    grid, freqs = np.arange(50.0), np.fft.rfftfreq(n_times, 1 / 100)
    weight = made.weight.detach().numpy()
    spectrum, out = np.fft.rfft(x.numpy()), np.zeros((4, 2, len(freqs)), complex)
    for k, freq in enumerate(freqs):
        if freq < 50:
            parts = [np.apply_along_axis(lambda w, f=freq: np.interp(f, grid, w), 0, weight[..., p]) for p in (0, 1)]
            out[..., k] = spectrum[..., k] @ (parts[0] + 1j * parts[1])
    np.testing.assert_allclose(made(x).detach().numpy(), np.fft.irfft(out, n=n_times), atol=1e-10)


def test_half_precision_is_computed_in_float32():
    made = layer(3, 3).float()
    x = torch.randn(2, 3, 100)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(made(x), made(x.float()), rtol=0, atol=0)
    torch.testing.assert_close(made(x.bfloat16()), made(x.bfloat16().float()).bfloat16(), rtol=0, atol=0)


def test_every_weight_of_a_network_learns():
    torch.manual_seed(0)
    network = FourierNetwork(5, 4, hidden=8)
    network(torch.randn(3, 5, 100)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())
    assert network(torch.randn(3, 5, 37)).shape == (3, 4, 37)


def test_a_band_beyond_half_of_sfreq_is_refused():
    with pytest.raises(ValueError, match="half of sfreq, 40.0 Hz"):
        SpectralConv1d(1, 1, sfreq=80.0, fmax=50.0)
