"""Curriculum learning: easy recordings first, harder ones later (Bengio et al. 2009, doi 10.1145/1553374.1553380).

The recordings used at a step depend only on the step, the settings and the SNR of the recordings. The order of the
windows is that of the loader and does not change: windows that are not used yet have weight 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lowest_snr(step: int, steps: int, share: float, easy: float = 0.8, hard: float = 0.3, best: float = 1.0) -> float:
    """Return the lowest SNR of the recordings used at a step.

    The curriculum has three stages of equal length in the first ``share`` of the steps: easy (SNR from ``easy``),
    medium (from the middle between ``easy`` and ``hard``) and hard (from ``hard``). After them all recordings are used.

    Parameters
    ----------
    step, steps : int
        Current step, and number of steps of the training.
    share : float
        Fraction of the steps that the curriculum lasts; 0 uses all recordings from the start.
    easy, hard : float
        Lowest SNR of the first and of the last stage.
    best : float
        Highest SNR of all recordings; the result is never above it, so that no stage leaves out all recordings.

    Examples
    --------
    >>> [round(lowest_snr(step, 100, 0.3), 2) for step in (0, 10, 20, 30)]
    [0.8, 0.55, 0.3, 0.0]
    """
    if step >= share * steps:
        return 0.0
    stage = min(2, int(3 * step / (share * steps)))
    return min((easy, (easy + hard) / 2, hard)[stage], best)


def curriculum_weight(snr: Tensor, lowest: float) -> Tensor:
    """Return 1 for windows whose SNR is at least ``lowest``, and 0 for others; same shape as ``snr``."""
    return (snr >= lowest - 1e-6).to(torch.float32)
