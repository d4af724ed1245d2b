"""The tokenizer: shapes, units, and what a cut of the tokens gives."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.bandvar.tokens.tokenizer import BandTokenizer, single_bands

BANDS = ((0.5, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 49.0))


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    made = BandTokenizer(3, 200, BANDS, codes=32, latent_width=8, width=16, blocks=1, rank=2).eval()
    made.set_scale([50.0, 15.0, 12.0, 8.0, 4.0])
    return made


def levels(count=2):
    return torch.cumsum(20 * torch.randn(count, 5, 3, 200), dim=1)


def test_tokens_and_back(tokenizer):
    tokens = tokenizer.encode(levels())
    assert tokens.shape == (2, 42) and tokens.dtype == torch.long
    assert tokenizer.decode(tokens).shape == (2, 5, 3, 200)
    assert BandTokenizer(4, 500, BANDS, codes=8, latent_width=4, width=8, blocks=0).lengths == (4, 8, 13, 30, 50)


def test_a_cut_of_the_tokens_gives_the_same_first_scales(tokenizer):
    tokens = tokenizer.encode(levels())
    whole, cut = tokenizer.decode(tokens), tokenizer.decode(tokens[:, :10])
    assert cut.shape[1] == 3
    torch.testing.assert_close(cut, whole[:, :3])
    with pytest.raises(ValueError, match="tokens of the first scale"):
        tokenizer.decode(tokens[:, :1])


def test_each_scale_decodes_its_sum_of_codes_and_no_later_band(tokenizer):
    tokens = tokenizer.encode(levels())
    summed = tokenizer.quantizer.partial_sums(tokens)[1]
    bands = tokenizer.decode_sum(summed, 1)
    assert bands.shape == (2, 2, 3, 200)
    torch.testing.assert_close(bands.sum(1), tokenizer.decode(tokens)[:, 1])
    for head in tokenizer.heads[2:]:
        torch.nn.init.constant_(head.mix.bias, 1e3)  # a later band's head plays no part
    torch.testing.assert_close(tokenizer.decode_sum(summed, 1), bands)


def test_units_are_the_datas(tokenizer):
    signal = levels()
    tokens, made = tokenizer.encode(signal), tokenizer.decode(tokenizer.encode(signal))
    in_mv = BandTokenizer(3, 200, BANDS, codes=32, latent_width=8, width=16, blocks=1, rank=2).eval()
    in_mv.load_state_dict(tokenizer.state_dict())
    in_mv.set_scale([0.05, 0.015, 0.012, 0.008, 0.004])
    assert torch.equal(in_mv.encode(signal / 1000), tokens)
    torch.testing.assert_close(in_mv.decode(tokens) * 1000, made)


def test_single_bands_sum_to_the_levels():
    signal = levels()
    torch.testing.assert_close(single_bands(signal).cumsum(1), signal)


def test_other_windows_and_scales_are_refused(tokenizer):
    with pytest.raises(ValueError, match="was built for"):
        tokenizer.encode(torch.zeros(1, 5, 3, 100))
    with pytest.raises(ValueError, match="positive number for each of 5 bands"):
        tokenizer.set_scale([1.0, 0.0, 1.0, 1.0, 1.0])
