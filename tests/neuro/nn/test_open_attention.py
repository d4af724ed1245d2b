"""Opened attention: torch's own class is the oracle, in all ways it is called."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nbkit.neuro.nn.open_attention import OpenAttention, open_attention


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torch_across_two_sequences(batch_first, bias):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(24, 4, batch_first=batch_first, bias=bias)
    opened = OpenAttention(attention)
    query, other = torch.randn(3, 5, 24), torch.randn(3, 7, 24)
    if not batch_first:
        query, other = query.transpose(0, 1), other.transpose(0, 1)
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[1, 4:] = True
    added = torch.randn(5, 7)
    per_head = torch.randn(3 * 4, 5, 7)
    for need_weights in (True, False):
        for mask in (None, added, added > 0.5, per_head):
            same_kind = padding if mask is None or mask.dtype == torch.bool else torch.zeros(3, 7) - 9.0 * padding
            asked = {"attn_mask": mask, "key_padding_mask": same_kind, "need_weights": need_weights}
            truth, truth_weights = attention(query, other, other, **asked)
            found, weights = opened(query, other, other, **asked)
            torch.testing.assert_close(found, truth, atol=1e-6, rtol=1e-5)
            assert found.std() > 0.01
            if need_weights:
                torch.testing.assert_close(weights, truth_weights, atol=1e-6, rtol=1e-5)
            else:
                assert weights is None


def test_an_encoder_calls_what_was_opened_in_training_and_in_evaluation():
    """torch's encoder has a short cut past its attention's modules in evaluation; it is not to be taken."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 2)
    opened = copy.deepcopy(encoder)
    assert open_attention(opened) == ["layers.0.self_attn", "layers.1.self_attn"]
    assert sum(p.numel() for p in opened.parameters()) == sum(p.numel() for p in encoder.parameters())
    calls = []
    opened.layers[1].self_attn.q_proj.register_forward_hook(lambda *_: calls.append(1))
    windows = torch.randn(2, 5, 16)
    for training in (True, False):
        encoder.train(training), opened.train(training)
        with torch.no_grad():
            torch.testing.assert_close(opened(windows), encoder(windows), atol=1e-5, rtol=1e-5)
    assert len(calls) == 2
    assert open_attention(opened) == []


def test_dropout_is_for_training():
    torch.manual_seed(0)
    opened = OpenAttention(nn.MultiheadAttention(16, 4, dropout=0.5, batch_first=True))
    x = torch.randn(2, 5, 16)
    for need_weights in (True, False):
        opened.train()
        assert not torch.equal(
            opened(x, x, x, need_weights=need_weights)[0], opened(x, x, x, need_weights=need_weights)[0]
        )
        opened.eval()
        assert torch.equal(opened(x, x, x, need_weights=need_weights)[0], opened(x, x, x, need_weights=need_weights)[0])


def test_refuses_what_it_would_compute_otherwise():
    for strange in ({"kdim": 8, "vdim": 8}, {"add_bias_kv": True}, {"add_zero_attn": True}):
        with pytest.raises(ValueError, match="one width"):
            OpenAttention(nn.MultiheadAttention(16, 4, **strange))
    x = torch.randn(5, 16)
    with pytest.raises(ValueError, match="three dimensions"):
        OpenAttention(nn.MultiheadAttention(16, 4))(x, x, x)
