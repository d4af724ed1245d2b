"""The response against nilearn's, its peak, and causality."""

import numpy as np
import pytest

from nbkit.neuro.signals.imaging.hrf import DoubleGamma, convolve_hrf, double_gamma, hrf_kernel, peak_lag


@pytest.mark.parametrize(("name", "shape"), [("spm_hrf", DoubleGamma.spm()), ("glover_hrf", DoubleGamma.glover())])
def test_it_is_nilearns(name, shape):
    from nilearn.glm import first_level

    step = 0.1
    theirs = getattr(first_level, name)(step, oversampling=1, time_length=32.0)
    # nilearn stretches its grid over the last sample and moves the response by one step
    times = np.linspace(0, 32.0, len(theirs)) - step
    ours = double_gamma(times, shape)
    assert np.abs(ours / ours.sum() - theirs).max() < 1e-12
    assert np.abs(double_gamma(times + 0.5, shape) / ours.sum() - theirs).max() > 1e-4


@pytest.mark.parametrize("seconds", [4.0, 5.0, 6.5])
def test_the_peak_is_where_it_was_planted(seconds):
    shape = DoubleGamma.peaking_at(seconds)
    assert peak_lag(hrf_kernel(0.05, shape=shape), 0.05) == pytest.approx(seconds, abs=0.05)
    assert peak_lag(hrf_kernel(1.0, shape=shape), 1.0) == pytest.approx(seconds, abs=0.25)


def test_an_impulse_answers_later_and_never_before():
    signal = np.zeros((60, 2))
    signal[20, 0] = 1.0
    bold = convolve_hrf(signal, 0.5, after_s=10.0)
    assert bold.shape == (80, 2)
    assert np.abs(bold[:21, 0]).max() < 1e-12 and bold[:, 0].argmax() == 30 and np.abs(bold[:, 1]).max() < 1e-12
    assert np.allclose(bold[20:, 0], hrf_kernel(0.5)[:60], atol=1e-12)


def test_a_kernel_that_ends_before_the_response_is_refused():
    with pytest.raises(ValueError, match="before the response begins"):
        hrf_kernel(1.0, length_s=1.0)
    with pytest.raises(ValueError, match="above 0"):
        hrf_kernel(0.0)
