"""Prediction of masked units on held-out windows, beside two null models: means of training, and of evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nbkit.neuro.neurofm.data.batches import SpikeWindows, collate
from nbkit.neuro.neurofm.network.losses import activity_nll, bits_per_spike, evaluated_mean_nll
from nbkit.neuro.neurofm.pretrain import Pretrainer, observed_in, rotating_mask, spikes_of


@dataclass(frozen=True)
class Bits:
    """Gain of the prediction of masked units over mean rates, in bit/spike, or bit/sample for traces.

    Attributes
    ----------
    over_training : float
        Over each unit's mean in the training windows. It includes what the rates drifted since.
    over_evaluated : float
        Over each unit's mean in the evaluated windows themselves: bits per spike of the Neural Latents Benchmark (Pei
        et al. 2021, arXiv:2109.04463).
    unit : str
    """

    over_training: float
    over_evaluated: float
    unit: str


@torch.no_grad()
def held_out_bits(module: Pretrainer, windows: SpikeWindows, batch_size: int = 32) -> dict[str, Bits]:
    """Return the gain over mean rates of each recording by name.

    Each unit is masked once and predicted from the other units; bins that were not observed are left out.

    Parameters
    ----------
    module : Pretrainer
    windows : SpikeWindows
        Held-out windows.
    batch_size : int
    """
    module.eval()
    ratio, sums, units = module.settings.mask_ratio, {}, UnitSums(module.table.n_units)
    traces = {recording.name: bool(recording.scales) for recording in module.table.recordings}
    for batch in DataLoader(windows, batch_size, collate_fn=collate):
        batch = {name: value.to(module.device) for name, value in batch.items()}
        counts, trace = batch["counts"].double(), batch.get("trace")
        mean_rate = module.model.book.mean_log_counts(batch["unit"]).double()[:, None].expand_as(counts)
        by_mean = activity_nll(mean_rate, counts, trace)
        ours = torch.zeros_like(counts)
        for turn in range(max(2, round(1 / ratio))):
            hidden = rotating_mask(batch["slot"], batch["present"], ratio, turn)
            nll = activity_nll(module(batch, hidden).log_counts.double(), counts, trace)
            ours = torch.where(hidden[:, None], nll, ours)
        there = (batch["present"][:, None] & observed_in(batch)).expand_as(counts)
        spikes = spikes_of(counts, trace)
        rows = torch.stack([(part * there).sum(dim=(1, 2)) for part in (ours, by_mean, spikes)], dim=1)
        for recording, row in zip(batch["recording"].tolist(), rows, strict=True):
            name = module.table.recordings[recording].name
            sums[name] = sums.get(name, 0) + row.cpu()
        units.add(batch, there)
    return {
        name: Bits(
            float(bits_per_spike(*row)),
            float(bits_per_spike(row[0], units.null(module, name), row[2])),
            "bit/sample" if traces[name] else "bit/spike",
        )
        for name, row in sums.items()
    }


class UnitSums:
    """Sums of each unit of a table over evaluated bins, for the null model that knows their mean.

    Parameters
    ----------
    n_units : int
        Units of the table.
    """

    def __init__(self, n_units: int) -> None:
        self.sums = torch.zeros(3, n_units, dtype=torch.float64)  # activity, its square, bins

    def add(self, batch: Mapping[str, Tensor], there: Tensor) -> None:
        """Add the observed bins of a batch; ``there`` is bool of shape (batch, bins, units)."""
        counts = batch["counts"].double() * there
        for own, part in zip(self.sums, (counts, counts.square(), there.double()), strict=True):
            own.index_add_(0, batch["unit"].flatten().cpu(), part.sum(dim=1).flatten().cpu())

    def null(self, module: Pretrainer, name: str) -> Tensor:
        """Return the NLL of predicting each unit of a recording by its mean over the evaluated bins, in nats."""
        known = module.table.find(name)
        place = slice(module.table.offsets[name], module.table.offsets[name] + len(known.unit_ids))
        total, squares, bins = self.sums[:, place]
        if known.scales:
            return (squares - total.square() / bins.clamp(min=1)).sum() / 2
        return evaluated_mean_nll(total, bins)
