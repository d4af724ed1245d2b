"""Easy recordings first, harder ones by and by (Bengio et al. 2009, doi 10.1145/1553374.1553380).

What is in at a step depends on the step, the settings and the recordings' SNR alone. The order in which windows come is
the loader's and does not change: a window that is not in yet has weight 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lowest_snr(step: int, steps: int, share: float, easy: float = 0.8, hard: float = 0.3, best: float = 1.0) -> float:
    """Return the SNR from which on recordings are in.

    Three equal stages fill the first ``share`` of the steps: easy (from ``easy``), medium (from half way) and hard
    (from ``hard``); after them all recordings are in, the worst too.

    Parameters
    ----------
    step, steps : int
    share : float
        0: all are in from the start.
    easy, hard : float
    best : float
        The highest SNR there is: a stage never leaves out all recordings.

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
    """Give 1 for windows of recordings that are in, else 0."""
    return (snr >= lowest - 1e-6).to(torch.float32)
