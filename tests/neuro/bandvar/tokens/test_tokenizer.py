"""The tokenizer: shapes, units, bands of their own, and more kept than by a linear coder of the same rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.bandvar.tokens.equal_rate_pca import EqualRatePCA, explained
from nbkit.neuro.bandvar.tokens.tokenizer import BandTokenizer, single_bands
from nbkit.neuro.signals.bands import cumulative_frequency_levels

BANDS = ((0.5, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 49.0))


def windows(seed, count):
    """Noise with the spectrum of EEG, of four channels that share sources; some windows are louder than others."""
    draws = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(4, 2))
    steps = 100 * count + 1400
    signal = mix @ np.cumsum(draws.normal(size=(2, steps)), axis=1) + draws.normal(size=(4, steps))
    levels = cumulative_frequency_levels(10 * signal, 100.0, BANDS)[:, :, 700 : 700 + 100 * count]
    loud = np.exp(draws.normal(0, 0.4, count))
    return (levels.reshape(5, 4, count, 100) * loud[:, None]).transpose(2, 0, 1, 3).astype(np.float32)


def rms(levels):
    return np.sqrt((np.diff(levels, axis=1, prepend=0.0) ** 2).mean(axis=(0, 2, 3)))


@pytest.fixture(scope="module")
def train():
    return windows(0, 300)


@pytest.fixture(scope="module")
def tokenizer(train):
    return BandTokenizer.fitted(train, 64, 20, rms(train), samples=4000).eval()


def test_tokens_and_back(tokenizer, train):
    levels = torch.from_numpy(train[:3])
    tokens = tokenizer.encode(levels)
    assert tokens.shape == (3, 20) and tokens.dtype == torch.long and tokens.max() < 64
    assert tokenizer.decode(tokens).shape == (3, 5, 4, 100)
    again = BandTokenizer.fitted(train, 64, 20, rms(train), samples=4000)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in tokenizer.state_dict().items())


def test_a_cut_of_the_tokens_gives_the_same_first_scales(tokenizer, train):
    tokens = tokenizer.encode(torch.from_numpy(train[:2]))
    end = tokenizer.quantizer.slices[2].stop
    whole, cut = tokenizer.decode(tokens), tokenizer.decode(tokens[:, :end])
    torch.testing.assert_close(cut, whole[:, :3])
    with pytest.raises(ValueError, match="tokens of the first scale"):
        tokenizer.decode(tokens[:, :0])


def test_a_band_is_drawn_by_its_own_tokens_and_holds_its_own_frequencies(tokenizer, train):
    levels = torch.from_numpy(train[:20])
    tokens = tokenizer.encode(levels)
    other = tokens.clone()
    other[:, tokenizer.quantizer.slices[1]] = (other[:, tokenizer.quantizer.slices[1]] + 7) % 64
    ours, theirs = (single_bands(tokenizer.decode(some)) for some in (tokens, other))
    same = [torch.allclose(ours[:, band], theirs[:, band], atol=1e-4) for band in range(5)]
    assert same == [True, False, True, True, True]
    spectrum = torch.fft.rfft(ours * torch.hann_window(100)).abs().square().mean(dim=(0, 2))
    freqs = np.fft.rfftfreq(100, 0.01)
    for band, (low, high) in enumerate(BANDS):
        outside = (freqs < low - 2.5) | (freqs > high + 2.5)
        assert spectrum[band, outside].sum() < 0.03 * spectrum[band].sum()


def test_more_is_kept_of_new_windows_than_by_a_pca_of_the_same_rate(tokenizer, train):
    fresh = windows(1, 200)
    bands = [np.diff(levels, axis=1, prepend=0.0) for levels in (train, fresh)]
    with torch.no_grad():
        found = tokenizer.quantize(torch.from_numpy(fresh))
        coded = tokenizer.decode_sum(found.partial_sums[-1], 4).numpy()
    ours = explained(bands[1], coded)[0]
    theirs = explained(bands[1], EqualRatePCA(20 * 6).fit(bands[0]).reconstruct(bands[1]))[0]
    assert all(mine > other for mine, other in zip(ours, theirs, strict=True)), (ours, theirs)


def test_units_are_the_datas(tokenizer, train):
    in_mv = BandTokenizer.fitted(train / 1000, 64, 20, rms(train) / 1000, samples=4000)
    levels = torch.from_numpy(train[:5])
    assert (in_mv.encode(levels / 1000) == tokenizer.encode(levels)).float().mean() > 0.99
    assert tokenizer.rms == pytest.approx(float(np.sqrt((rms(train) ** 2).sum())), rel=1e-5)


def test_other_windows_and_scales_are_refused(tokenizer):
    with pytest.raises(ValueError, match="was built for"):
        tokenizer.encode(torch.zeros(1, 5, 4, 90))
    with pytest.raises(ValueError, match="positive number for each of 5 bands"):
        tokenizer.set_scale([1.0, 0.0, 1.0, 1.0, 1.0])
