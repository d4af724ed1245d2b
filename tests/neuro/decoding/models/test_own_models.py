"""Encoders of our own: taken by what they say of themselves, not by their class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nbkit.neuro.decoding.models.own_models import WindowEncoder, own_model
from nbkit.neuro.nn.lora import add_lora, dead_adapters


class Averages(nn.Module):
    """The mean of each channel, in uV, through torch's attention over channels."""

    key, ch_names, sfreq, n_times, dim = "averages", ("C3", "Cz", "C4"), 100.0, 50, 8
    weights, lora_layers = "random, seed 3", ("q_proj", "out_proj")

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(1, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, windows):
        tokens = self.into(windows.mean(-1, keepdim=True))
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Averages().eval()


def test_an_encoder_says_what_it_takes_and_is_left_as_it_is(encoder):
    assert isinstance(encoder, WindowEncoder)
    model = own_model(encoder)
    assert type(encoder.attention) is nn.MultiheadAttention and all(p.requires_grad for p in encoder.parameters())
    windows = np.random.default_rng(0).normal(size=(4, 4, 100)) * 30
    prepared = model.prepare(windows, ["Pz", "C4", "C3", "Cz"], 200.0)
    assert prepared.array.shape == (4, 3, 50) and "in uV, not scaled" in prepared.said
    with torch.no_grad():
        truth = encoder(torch.from_numpy(prepared.array))
    np.testing.assert_allclose(model.embed(prepared), truth, atol=1e-5)
    assert (model.key, model.random, model.dim) == ("averages", True, 8)


@pytest.mark.train
def test_adapters_go_into_its_opened_attention(encoder):
    model = own_model(encoder)
    decoder = model.with_head(2)
    report = add_lora(decoder, model.lora_targets(), r=2)
    assert report.adapters == ("backbone.attention.q_proj", "backbone.attention.out_proj")
    decoder(torch.randn(5, 3, 50)).square().sum().backward()
    assert dead_adapters(decoder) == []


def test_what_says_nothing_of_itself_is_refused():
    with pytest.raises(ValueError, match="Linear is not an encoder of windows: it has no key, ch_names"):
        own_model(nn.Linear(3, 3))


def test_a_net_over_the_whole_head_is_guessed_from_a_cap_only_when_allowed():
    """E1 alone could be of any net: all names together say that it is the one with 128."""
    encoder = Averages().eval()
    encoder.ch_names = tuple(f"E{number}" for number in range(1, 129)) + ("Cz",)
    cap = ["Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1"]
    windows = np.random.default_rng(0).normal(size=(2, len(cap), 100))
    with pytest.raises(ValueError, match="needs 129 channels and .* nearest, 36 degrees away"):
        own_model(encoder).prepare(windows, cap, 200.0)
    allowed = own_model(encoder, farthest=60.0)
    assert allowed.prepare(windows, cap, 200.0).array.shape == (2, 129, 50)
    assert allowed.fingerprint != own_model(encoder).fingerprint
