"""Small windows with the targets of both challenges."""

from __future__ import annotations

import math

import torch

from nbkit.neuro.signals.hbn.synthetic import hbn_ch_names
from tests.neuro.labram.training import Windows


class FactorWindows(Windows):
    """As `Windows`, 4 channels by 2 s at 20 Hz, with the columns beside the target; a third has no p factor."""

    def __init__(self, count: int = 96, batch_size: int = 8, coupled: bool = True, seed: int = 0) -> None:
        super().__init__(count, batch_size, coupled, seed)
        draws = torch.Generator().manual_seed(seed + 1)
        for place, sample in enumerate(self.samples):
            sample["correct"] = float(place % 4 > 0) if place % 5 else math.nan
            sample["p_factor"] = math.nan if sample["subject"] % 3 == 0 else float(torch.randn((), generator=draws))
            sample["internalizing"], sample["attention"] = torch.randn(2, generator=draws).tolist()

    def target_scale(self, column: str = "target") -> tuple[float, float]:
        values = torch.tensor([sample[column] for sample in self.train])
        values = values[torch.isfinite(values)]
        return float(values.mean()), float(values.std(correction=0))


class ScalpWindows(FactorWindows):
    """Some windows as the challenge has them."""

    ch_names, sfreq = hbn_ch_names(), 100.0

    def __init__(self, n_times: int = 200) -> None:
        super().__init__(count=16)
        draws = torch.Generator().manual_seed(3)
        for sample in self.samples:
            sample["window"] = 20 * torch.randn(129, n_times, generator=draws)
