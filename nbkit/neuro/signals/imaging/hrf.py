"""Haemodynamic response: a difference of two gamma densities.

Lags count forward from the event: ``kernel[i]`` weights the input of ``i * tr`` seconds ago. A causal convolution uses
the kernel as it is; a correlation (torch's Conv1d) needs it reversed. The parameters are those of Friston et al. (1998)
and Glover (1999); the tests compare with nilearn's spm_hrf and glover_hrf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nbkit.ground.fields import checked


@checked
@dataclass(frozen=True)
class DoubleGamma:
    """Parameters of the response; the defaults are those of SPM.

    Attributes
    ----------
    delay, undershoot : float
        Delay of the response and of the undershoot, in s; the peak is one ``dispersion`` earlier than ``delay``.
    dispersion, u_dispersion : float
        Widths of response and undershoot, in s.
    ratio : float
        Size of the undershoot's gamma relative to the response's.
    """

    delay: float = 6.0
    undershoot: float = 16.0
    dispersion: float = 1.0
    u_dispersion: float = 1.0
    ratio: float = 0.167

    @classmethod
    def spm(cls) -> DoubleGamma:
        """Return SPM's canonical response (peak at 5 s)."""
        return cls()

    @classmethod
    def glover(cls) -> DoubleGamma:
        """Return Glover's response to an auditory stimulus (peak at 4.9 s)."""
        return cls(delay=6.0, undershoot=12.0, dispersion=0.9, u_dispersion=0.9, ratio=0.48)

    @classmethod
    def peaking_at(cls, seconds: float) -> DoubleGamma:
        """Return SPM's response, shifted so that its first gamma peaks at ``seconds``."""
        return cls(delay=seconds + 1.0, undershoot=seconds + 11.0)


def double_gamma(times: np.ndarray, shape: DoubleGamma | None = None) -> np.ndarray:
    """Return the response at times after an event, in 1/s; zero before it.

    Parameters
    ----------
    times : ndarray of shape (times,)
        In s.
    shape : DoubleGamma, optional
        By default that of SPM.
    """
    shape = shape or DoubleGamma()
    response = _gamma_density(times, shape.delay, shape.dispersion)
    return response - shape.ratio * _gamma_density(times, shape.undershoot, shape.u_dispersion)


def _gamma_density(times: np.ndarray, delay: float, dispersion: float) -> np.ndarray:
    power = delay / dispersion - 1
    scaled = np.clip(np.asarray(times, float) / dispersion, 0, None)
    return scaled**power * np.exp(-scaled) / (math.gamma(power + 1) * dispersion)


def hrf_kernel(tr: float, length_s: float = 32.0, shape: DoubleGamma | None = None) -> np.ndarray:
    """Sample the response on a grid and normalise its sum to 1.

    Parameters
    ----------
    tr : float
        Step of the grid, in s.
    length_s : float
        Length of the kernel, in s; ``8 * tr`` gives the eight taps of the student's layer.
    shape : DoubleGamma, optional

    Returns
    -------
    kernel : ndarray of shape (lags,)
        Lag 0 first.

    Raises
    ------
    ValueError
        If a length is not above 0, or the kernel ends before the response begins.
    """
    if not (tr > 0 and length_s > 0):
        raise ValueError(f"Lengths {tr=} and {length_s=} must both be above 0 s.")
    kernel = double_gamma(np.arange(max(1, round(length_s / tr))) * tr, shape)
    total = kernel.sum()
    if total <= 0:
        raise ValueError(
            f"A kernel of {length_s:g} s with steps of {tr:g} s ends before the response begins; the response rises "
            "over 5 s: use a longer kernel."
        )
    return kernel / total


def peak_lag(kernel: np.ndarray, tr: float) -> float:
    """Return the lag of a kernel's peak, in s, from a parabola through the largest tap and its neighbours."""
    kernel = np.asarray(kernel, float)
    top = int(kernel.argmax())
    if 0 < top < len(kernel) - 1:
        left, middle, right = kernel[top - 1 : top + 2]
        return (top + 0.5 * (left - right) / (left - 2 * middle + right)) * tr
    return top * tr


def convolve_hrf(signal: np.ndarray, tr: float, shape: DoubleGamma | None = None, after_s: float = 0.0) -> np.ndarray:
    """Convolve neural drive with the response, causally; the drive is zero before the first sample.

    Parameters
    ----------
    signal : ndarray of shape (time, outputs)
        On a grid of ``tr`` seconds.
    after_s : float
        Time to continue after the end of the drive, in s.

    Returns
    -------
    bold : ndarray of shape (time + round(after_s / tr), outputs)
    """
    from scipy.signal import fftconvolve

    n_times = len(signal) + round(after_s / tr)
    kernel = hrf_kernel(tr, shape=shape)
    whole = fftconvolve(np.asarray(signal, float), kernel[:, None], axes=0)
    missing = max(0, n_times - len(whole))
    return np.pad(whole[:n_times], ((0, missing), (0, 0)))
