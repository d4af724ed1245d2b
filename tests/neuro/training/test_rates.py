"""Rates: a climb, a fall, and the batch's share."""

from __future__ import annotations

import pytest

from nbkit.neuro.training.rates import rate_share, scaled_rate


def test_warm_up_and_fall():
    shares = [rate_share(step, 200, 50, 0.1) for step in range(200)]
    assert shares[0] == pytest.approx(0.005) and shares[50] == 1.0 and shares[-1] == pytest.approx(0.1)
    assert shares[:51] == sorted(shares[:51]) and shares[50:] == sorted(shares[50:], reverse=True)
    assert rate_share(500, 200, 50, 0.1) == pytest.approx(0.1)
    assert {rate_share(step, 200, 0, 1.0) for step in range(200)} == {1.0}


def test_the_rate_goes_with_the_batch():
    assert scaled_rate(1e-4, 768) == pytest.approx(3e-4)
    assert scaled_rate(1e-4, 64) == pytest.approx(2.5e-5)
