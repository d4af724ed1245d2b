"""Padded heads: the same attention as without padding, with gradients, masks, dropout and a scale of its own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from nbkit.neuro.nn.attention import Attention
from nbkit.neuro.nn.fused import WIDTH, attend


def heads(width: int, dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(width)
    return [torch.randn(2, 3, n, width, generator=generator, dtype=dtype).requires_grad_() for n in (5, 7, 7)]


@pytest.mark.parametrize("width", [1, 10, 20, 24, 25])
@pytest.mark.parametrize("masked", [False, True])
def test_padding_changes_nothing_but_the_last_bits(width: int, masked: bool) -> None:
    q, k, v = heads(width)
    mask = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)).log().double() if masked else None
    with sdpa_kernel(SDPBackend.MATH):
        truth = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        wanted = torch.autograd.grad(truth.square().sum(), (q, k, v))
        padded = attend(q, k, v, mask, pad=True)
        found = torch.autograd.grad(padded.square().sum(), (q, k, v))
    limit = 3e-16 if width == 20 else 1e-15
    assert padded.shape == truth.shape and (padded - truth).abs().max() <= limit * truth.abs().max()
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-14, rtol=1e-14)


def test_without_its_own_scale_padding_would_be_wrong() -> None:
    q, k, v = heads(20)
    wide = [F.pad(each, (0, 4)) for each in (q, k, v)]
    truth = attend(q, k, v)
    assert (F.scaled_dot_product_attention(*wide)[..., :20] - truth).abs().max() > 1e-3
    assert (attend(q, k, v, scale=0.5, pad=True) - attend(q, k, v, scale=0.5, pad=False)).abs().max() < 1e-15


def test_every_width_reaches_the_kernels_as_a_multiple_of_eight(monkeypatch) -> None:
    seen = []
    real = F.scaled_dot_product_attention

    def watched(query, key, value, **options):
        seen.append(tuple(each.shape[-1] for each in (query, key, value)))
        return real(query, key, value, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    for width in (10, 20, 24, 32):
        attend(*heads(width), pad=True)
    assert all(each % WIDTH == 0 for widths in seen for each in widths)
    assert [widths[0] for widths in seen] == [16, 24, 24, 32]
    Attention(200, 10)(torch.randn(1, 4, 200))  # on a CPU nothing is padded: results there stay as they were
    assert seen[-1] == (20, 20, 20)


def test_the_rate_of_dropout_is_kept() -> None:
    q, k, v = heads(20)
    with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH):
        torch.manual_seed(0)
        first = attend(q, k, v, dropout=0.5, pad=True)
        torch.manual_seed(0)
        second = attend(q, k, v, dropout=0.5, pad=False)
    torch.testing.assert_close(first, second, atol=1e-14, rtol=1e-14)
    assert (first - attend(q, k, v)).abs().max() > 0.1
