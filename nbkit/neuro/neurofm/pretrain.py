"""Pretraining (phase 50): predict masked units, decode behaviour, and contrast consecutive windows with others.

Each training step masks a random fraction of the units of every window, and the Poisson loss is over the masked units
only. Random numbers are drawn from torch's generator in the training step. Validation masks each unit in turn and draws
no random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from nbkit.neuro.neurofm.data.curriculum import curriculum_weight, lowest_snr
from nbkit.neuro.neurofm.network.losses import activity_nll, bits_per_spike, info_nce, mean_where
from nbkit.neuro.neurofm.network.model import Answer, NeuroFM, NeuroFMSettings
from nbkit.neuro.neurofm.network.units import UnitTable
from nbkit.neuro.training.optimization import ClippedModule, Patience, counted, make_optimizer
from nbkit.neuro.training.weights import held, load_strictly, settings_from

MONITOR = "val_loss"


def laid_over(settings: NeuroFMSettings, data: Any) -> NeuroFMSettings:
    """Return settings with lengths in optimizer steps, computed from epochs and the number of training windows."""
    return counted(settings, math.ceil(len(data.train_dataloader()) / settings.accumulate))


def rotating_mask(slot: Tensor, present: Tensor, ratio: float, turn: int) -> Tensor:
    """Return the units to mask in one turn: each unit is masked in one of 1 / ratio turns, independent of its batch.

    Parameters
    ----------
    slot : Tensor of shape (batch, units)
        Index of each unit in its recording.
    present : bool Tensor of shape (batch, units)
        False for padding.
    ratio : float
        Fraction of the units to mask.
    turn : int
        Number of the turn, from 0.

    Returns
    -------
    hidden : bool Tensor of shape (batch, units)
    """
    return ((slot + turn) % max(2, round(1 / ratio)) == 0) & present


class Pretrainer(ClippedModule):
    """Lightning module that pretrains `NeuroFM`.

    Parameters
    ----------
    settings : NeuroFMSettings
        With lengths in steps; see `laid_over`.
    table : UnitTable
        Units, kinds and tasks of the recordings.
    """

    def __init__(self, settings: NeuroFMSettings, table: UnitTable) -> None:
        super().__init__()
        self.settings, self.table = settings, table
        self.model = NeuroFM(settings, table)
        self._best_snr = max(recording.snr for recording in table.recordings)
        self._sums: Tensor | None = None

    @classmethod
    def for_data(cls, settings: NeuroFMSettings, data: Any) -> Pretrainer:
        """Build the module for a `SpikeData`, with lengths converted to steps.

        Raises
        ------
        ValueError
            If the windows of the data do not have the bins of the settings.
        """
        if data.n_bins != settings.n_bins or abs(data.bin_s - settings.bin_s) > 1e-9:
            raise ValueError(
                f"The windows have {data.n_bins} bins of {data.bin_s:g} s, the settings {settings.n_bins} bins of "
                f"{settings.bin_s:g} s. Create the windows with the n_bins and bin_s of the settings, or change the "
                "settings."
            )
        return cls(laid_over(settings, data), data.table)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Pretrainer:
        """Load a module with its weights and unit table from a checkpoint."""
        made, weights = held(path, "neurofm")
        module = cls(settings_from(NeuroFMSettings, made, path), UnitTable.from_dict(made["table"]))
        load_strictly(module, weights, path)
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["neurofm"] = {
            "settings": asdict(self.settings) | {"rates": list(self.settings.rates)},
            "table": self.table.as_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs = checkpoint.get("neurofm", {}).get("table", {})
        names = [row["name"] for row in theirs.get("recordings", [])]
        own = [recording.name for recording in self.table.recordings]
        if names != own:
            raise ValueError(
                f"The checkpoint was trained on {len(names)} recordings ({', '.join(names[:4])} ...), this model is "
                f"for {len(own)} ({', '.join(own[:4])} ...). Nothing was loaded. Give the same recordings, or use "
                "another store for this training."
            )

    def configure_callbacks(self) -> list[lightning.Callback]:
        return [Patience(MONITOR, self.settings.patience_steps)] if self.settings.patience_steps else []

    def forward(self, batch: Mapping[str, Tensor], hidden: Tensor | None = None) -> Answer:
        """Apply the network to a batch; see `NeuroFM.forward`."""
        return self.model(batch, hidden)

    def losses(self, batch: Mapping[str, Tensor], hidden: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return the losses of a batch by name.

        Parameters
        ----------
        batch : mapping
            See `NeuroFM.forward`.
        hidden : bool Tensor of shape (batch, units)
            Masked units.
        weight : Tensor of shape (batch,)
            Weight of each window; windows with weight 0 do not contribute.

        Returns
        -------
        losses : dict of str to Tensor
            ``masked`` and ``behaviour``; ``contrast`` and ``forecast`` if their weights in the settings are not 0.
        """
        s, answer = self.settings, self(batch, hidden)
        counts = batch["counts"].float()
        trace, observed = batch.get("trace"), observed_in(batch)
        nll = activity_nll(answer.log_counts, counts, trace)
        asked = (hidden & batch["present"]) * weight[:, None]
        losses = {"masked": mean_where(nll, asked[:, None] * observed)}
        wanted = self.model.standardised(batch["behaviour"], batch["task"])
        known = torch.isfinite(wanted) & (batch["task"] > 0)[:, None, None]
        error = (answer.behaviour.float() - wanted.nan_to_num()).square()
        losses["behaviour"] = mean_where(error, known * weight[:, None, None])
        follows = batch["has_next"] * weight
        if s.contrast_weight:
            # The next window is not masked, as in use, and gets no gradient, which cuts its cost to a third.
            with torch.no_grad():
                later = {"counts": batch["next_counts"]}
                if "observed" in batch:
                    later["observed"] = batch["next_observed"]
                place = self({**batch, **later}).place
            losses["contrast"] = info_nce(answer.place, place, s.temperature, follows)
        if s.forecast_weight:
            ahead = batch["next_counts"][:, : answer.forecast.shape[1]].float()
            soon = activity_nll(answer.forecast[:, : ahead.shape[1]], ahead, trace)
            known = batch["present"][:, None] & observed_in(batch, "next_observed")[:, : ahead.shape[1]]
            losses["forecast"] = mean_where(soon, known * follows[:, None, None])
        return losses

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of losses, weighted by the settings."""
        return sum(getattr(self.settings, f"{name}_weight") * value for name, value in losses.items())

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        s = self.settings
        hidden = (torch.rand(batch["present"].shape, device=self.device) < s.mask_ratio) & batch["present"]
        lowest = lowest_snr(self.global_step, s.steps, s.curriculum_share, s.snr_easy, s.snr_hard, self._best_snr)
        weight = curriculum_weight(batch["snr"], lowest)
        losses = self.losses(batch, hidden, weight)
        loss = self.total(losses)
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": value for name, value in losses.items()})
        self.log("lowest_snr", lowest)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = None

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        sums = self.sums(batch, batch_idx)
        self._sums = sums if self._sums is None else self._sums + sums

    def sums(self, batch: Mapping[str, Tensor], turn: int) -> Tensor:
        """Return the sums that `scores` needs; those of several batches can be added.

        Returns
        -------
        sums : float64 Tensor of shape (6 + 4 * dims,)
            For observed bins of masked units: NLL of the model and of mean rates, squared errors of both, number of
            spikes (of samples, for traces) and number of counts. Then, for each dim of the standardised behaviour:
            squared error, sum, sum of squares and count.
        """
        counts, present = batch["counts"].double(), batch["present"]
        hidden = rotating_mask(batch["slot"], present, self.settings.mask_ratio, turn)
        answer = self(batch, hidden)
        asked = (hidden[:, None] & observed_in(batch)).double().expand_as(counts)
        log_counts, trace = answer.log_counts.double(), batch.get("trace")
        mean_rate = self.model.book.mean_log_counts(batch["unit"]).double()[:, None].expand_as(counts)
        told, told_by_mean = (_expected(part, trace) for part in (log_counts, mean_rate))
        nll, by_mean = (activity_nll(part, counts, trace) for part in (log_counts, mean_rate))
        spikes = [
            (nll * asked).sum(), (by_mean * asked).sum(), ((told - counts).square() * asked).sum(),
            ((told_by_mean - counts).square() * asked).sum(), (spikes_of(counts, trace) * asked).sum(), asked.sum(),
        ]  # fmt: skip
        wanted = self.model.standardised(batch["behaviour"], batch["task"]).double()
        known = torch.isfinite(wanted) & (batch["task"] > 0)[:, None, None]
        wanted = wanted.nan_to_num() * known
        error = (answer.behaviour.double() - wanted).square() * known
        parts = torch.stack([part.sum(dim=(0, 1)) for part in (error, wanted, wanted.square(), known.double())])
        return torch.cat([torch.stack(spikes), parts.flatten()])

    def on_validation_epoch_end(self) -> None:
        if self._sums is None:
            return
        gathered = self.all_gather(self._sums).reshape(-1, len(self._sums)).sum(dim=0)
        self.log_dict({f"val_{name}": value for name, value in self.scores(gathered).items()})

    def scores(self, sums: Tensor) -> dict[str, Tensor]:
        """Return the scores for `sums` added over all batches.

        ``bits_per_spike`` is 0 for predictions as good as mean rates; ``count_mse`` has the baseline
        ``count_mse_mean_rate``; ``r2`` is that of behaviour over all dims, 0 for predictions as good as the mean;
        ``loss`` is the NLL of masked units minus that of mean rates, plus the error of the behaviour.
        """
        nll, by_mean, mse, mse_by_mean, spikes, cells = sums[:6]
        error, total, squares, count = sums[6:].reshape(4, -1)
        scatter = (squares - total.square() / count.clamp(min=1)).sum()
        behaviour = error.sum() / count.sum().clamp(min=1)
        cells = cells.clamp(min=1)
        s = self.settings
        scores = {
            "loss": s.masked_weight * (nll - by_mean) / cells + s.behaviour_weight * behaviour,
            "bits_per_spike": bits_per_spike(nll, by_mean, spikes),
            "count_mse": mse / cells,
            "count_mse_mean_rate": mse_by_mean / cells,
            "behaviour_mse": behaviour,
            "r2": 1 - error.sum() / scatter.clamp(min=1e-12),
        }
        return {name: value.float() for name, value in scores.items()}

    def configure_optimizers(self) -> dict[str, Any]:
        return make_optimizer(self, self.settings)


def observed_in(batch: Mapping[str, Tensor], name: str = "observed") -> Tensor:
    """Return which bins of a batch were observed, (batch or 1, bins or 1, units or 1)."""
    return batch[name] if name in batch else batch["present"].new_ones((1, 1, 1))


def spikes_of(counts: Tensor, trace: Tensor | None) -> Tensor:
    """Return the number of spikes of each bin; 1 for a sample of a trace, whose gain is counted in bit/sample."""
    return counts if trace is None else torch.where(trace[:, None, None], 1.0, counts)


def _expected(predicted: Tensor, trace: Tensor | None) -> Tensor:
    return predicted.exp() if trace is None else torch.where(trace[:, None, None], predicted, predicted.exp())


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the scores of the best validation as rows with name, value, unit, baseline and baseline_is.

    The best has the lowest loss, as the checkpoint that is scored. The list is empty before the first validation.
    """
    logged = [row for row in history if MONITOR in row and math.isfinite(row[MONITOR])]
    if not logged:
        return []
    last = min(logged, key=lambda row: row[MONITOR])
    return [
        {"name": "val_bits_per_spike", "value": last["val_bits_per_spike"], "unit": "bit/spike", "baseline": 0.0,
         "baseline_is": "mean rate of each unit in training"},
        {"name": "val_count_mse", "value": last["val_count_mse"], "unit": "spikes^2",
         "baseline": last["val_count_mse_mean_rate"], "baseline_is": "mean rate of each unit in training"},
        {"name": "val_r2", "value": last["val_r2"], "unit": "1", "baseline": 0.0,
         "baseline_is": "mean of the behaviour"},
    ]  # fmt: skip
