"""Effective rank and contrast of latents whose dimensions in use are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.jepa.collapse import LatentMoments, collapsed, effective_rank


@pytest.mark.parametrize("used", [1, 5, 24, 96])
def test_the_rank_is_the_number_of_equal_dimensions(used):
    draws = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(400, 400, generator=draws, dtype=torch.float64)).Q[:, : used + 1]
    equal = axes - axes.mean(0)  # centred, then made orthogonal again
    equal = torch.linalg.svd(equal, full_matrices=False)[0][:, :used]
    turn = torch.linalg.qr(torch.randn(96, 96, generator=draws, dtype=torch.float64)).Q
    latents = equal @ turn[:used] + 3.0
    assert effective_rank(latents) == pytest.approx(used, rel=1e-3)


def test_it_is_the_entropy_of_singular_values_written_out_in_batches():
    latents = torch.randn(500, 96, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.01, 1, 96) + 2
    values = np.linalg.svd(latents.double().numpy() - latents.double().numpy().mean(0), compute_uv=False)
    share = values / values.sum()
    moments = LatentMoments(96)
    for part in latents.split(64):
        moments.add(part)
    assert moments.effective_rank() == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
    block = slice(24, 60)
    assert moments.effective_rank(block) == pytest.approx(effective_rank(latents[:, block]), rel=1e-6)
    assert moments.spread == pytest.approx(float(latents.std(0, correction=0).mean()), rel=1e-5)
    size = latents.double().square().sum(1).mean()
    share = latents.double().var(0, correction=0).sum() / size
    assert moments.contrast == pytest.approx(float(share.sqrt()), rel=1e-6)


def test_latents_that_are_all_alike_have_rank_0_and_no_contrast():
    alike = torch.full((50, 96), 0.7)
    moments = LatentMoments(96)
    moments.add(alike)
    assert effective_rank(alike) == 0.0 and moments.contrast < 1e-6
    assert "effective rank 0.00" in collapsed(0.0, 0.5) and "0.10% of" in collapsed(20.0, 0.001)
    assert collapsed(20.0, 0.5) == ""
